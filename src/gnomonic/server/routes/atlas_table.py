"""Which function answers which Atlas route."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ROUTES", "AtlasRoute"]


@dataclass(frozen=True, slots=True)
class AtlasRoute:
    """A path and who answers on it."""

    method: str
    path: str
    target: str
    """module:function of `server/atlas`."""
    shown: bool = False
    """Whether the OpenAPI document tells of it."""


_PROJECTION = "/v1/project/{project_id}/index/projection/{map_id}"

# In the order in which the official client's protocol is described; a path that is more exact stands first.
_WIRE = (
    AtlasRoute("GET", "/v1/user/token/refresh/{token}", "wire_refused:refresh"),
    AtlasRoute("GET", "/v1/organization/{slug}", "wire_datasets:organization"),
    AtlasRoute("GET", "/v1/project/{organization}/{slug}", "wire_datasets:about_named"),
    AtlasRoute("GET", "/v1/project/{project_id}", "wire_datasets:about"),
    AtlasRoute("POST", "/v1/project/create", "wire_datasets:create"),
    AtlasRoute("POST", "/v1/project/remove", "wire_datasets:remove"),
    AtlasRoute("POST", "/v1/project/data/add/arrow", "wire_uploads:add_arrow"),
    AtlasRoute("POST", "/v1/project/data/add/blobs", "wire_uploads:add_blobs"),
    AtlasRoute("POST", "/v1/project/index/create", "wire_maps:create_index"),
    AtlasRoute("GET", "/v1/project/index/job/progress/{index_id}", "wire_maps:progress"),
    AtlasRoute("GET", "/v1/project/index/job/{job_id}", "wire_maps:job"),
    AtlasRoute("GET", "/v1/project/projection/tags/get/all", "wire_tags:all_tags"),
    AtlasRoute("GET", "/v1/project/projection/tags/status", "wire_tags:tag_status"),
    AtlasRoute("GET", "/v1/project/projection/{map_id}/schema", "wire_tiles:schema"),
    AtlasRoute("GET", f"{_PROJECTION}/quadtree/manifest.feather", "wire_tiles:manifest"),
    AtlasRoute("GET", f"{_PROJECTION}/quadtree/{{key:path}}", "wire_tiles:tile"),
    AtlasRoute("GET", _PROJECTION, "wire_maps:about_map"),
    AtlasRoute("POST", "/v1/project/data/get", "wire_datasets:get_rows"),
    AtlasRoute("POST", "/v1/project/data/get/nearest_neighbors/by_id", "wire_search:by_id"),
    AtlasRoute("POST", "/v1/project/data/get/nearest_neighbors/by_embedding", "wire_search:by_embedding"),
    AtlasRoute("POST", "/v1/project/data/get/embedding/topic", "wire_search:topic_shares"),
    AtlasRoute("GET", "/v1/data/{name}", "wire_refused:not_here"),
    AtlasRoute("POST", "/v1/upload", "wire_refused:not_here"),
    AtlasRoute("POST", "/v1/parse", "wire_refused:not_here"),
    AtlasRoute("POST", "/v1/extract", "wire_refused:not_here"),
    AtlasRoute("GET", "/v1/status/{task_id}", "wire_refused:not_here"),
)

_OWN = {
    "": ("GET api_datasets:about", "DELETE api_datasets:delete"),
    "/rows": (
        "POST api_datasets:append_rows",
        "GET api_datasets:read_rows",
        "PATCH api_datasets:change_rows",
        "DELETE api_datasets:delete_rows",
    ),
    "/rows/read": ("POST api_datasets:find_rows",),
    "/maps": ("GET api_maps:list_maps", "POST api_maps:build"),
    "/jobs": ("GET api_maps:list_jobs",),
    "/jobs/{job_id}": ("GET api_maps:job", "DELETE api_maps:cancel_job"),
    "/tags": ("GET api_maps:tags", "POST api_maps:add_tag", "DELETE api_maps:remove_tag"),
    "/maps/{map_id}": ("GET api_maps:about", "DELETE api_maps:delete"),
    "/maps/{map_id}/current": ("POST api_maps:make_current",),
    "/maps/{map_id}/read": ("POST api_parts:read",),
    "/maps/{map_id}/nearest": ("POST api_parts:nearest",),
    "/maps/{map_id}/topic-shares": ("POST api_parts:topic_shares",),
    "/maps/{map_id}/view": ("GET api_viewer:view",),
    "/maps/{map_id}/labels": ("GET api_viewer:labels",),
    "/maps/{map_id}/rows-at": ("POST api_viewer:rows_at",),
    "/maps/{map_id}/find": ("POST api_search:find",),
    "/maps/{map_id}/counts": ("POST api_viewer:counts",),
    "/maps/{map_id}/explain": ("POST api_viewer:explain",),
    "/maps/{map_id}/tags": ("POST api_viewer:tag_rows",),
    "/maps/{map_id}/duplicate-groups": ("GET api_viewer:duplicate_groups",),
    "/maps/{map_id}/thumbs/{z}/{x}/{y}": ("GET api_images:thumbs",),
    "/maps/{map_id}/thumbs/{position}": ("GET api_images:thumb",),
    "/maps/{map_id}/images/{position}": ("GET api_images:image",),
    "/maps/{map_id}/search": ("POST api_search:search",),
    "/maps/{map_id}/filter": ("POST api_search:filter_bits",),
    "/maps/{map_id}/heat": ("POST api_search:heat",),
    "/maps/{map_id}/export": ("POST api_search:export",),
    "/maps/{map_id}/topics": ("GET api_maps:topics",),
    "/maps/{map_id}/duplicates": ("GET api_maps:duplicates",),
    "/maps/{map_id}/rows/{position}": ("GET api_maps:row",),
    "/maps/{map_id}/neighbors/{position}": ("GET api_maps:neighbors",),
    "/maps/{map_id}/files/{path:path}": ("GET api_maps:file",),
}


def _read(path: str, answers: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Return method, path and target of each "METHOD module:function"."""
    return [(method, path, target) for method, _, target in (answer.partition(" ") for answer in answers)]


ROUTES: tuple[AtlasRoute, ...] = (
    *_WIRE,
    AtlasRoute("GET", "/v1/datasets", "api_datasets:list_all", shown=True),
    AtlasRoute("POST", "/v1/datasets", "api_datasets:create", shown=True),
    *(
        AtlasRoute(*answer, shown=True)
        for rest, answers in _OWN.items()
        for answer in _read(f"/v1/datasets/{{organization}}/{{slug}}{rest}", answers)
    ),
)
