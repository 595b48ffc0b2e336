/**
 * The types that the viewer's parts share. Nothing here runs.
 *
 * @typedef {import("./bits.js").Bits} Bits
 * @typedef {import("./store.js").Store} Store
 *
 * @typedef {{z: number, x: number, y: number, offset: number, count: number}} Tile
 * @typedef {{format: string, count: number, extent: {x: number, y: number, size: number}, tiles: Tile[]}} Manifest
 *
 * @typedef {object} ColumnInfo  A column as columns.json tells it (docs/reference/formats.md).
 * @property {string} name
 * @property {string} id
 * @property {"category" | "number" | "integer" | "date" | "bool" | "text" | "other"} kind
 * @property {"u8" | "u16" | "u32" | "f32" | "f64" | null} dtype
 * @property {number} nulls
 * @property {number | null} null_code
 * @property {number | null} distinct
 * @property {number | null} minimum
 * @property {number | null} maximum
 * @property {number[]} histogram
 *
 * @typedef {Uint8Array | Uint16Array | Uint32Array | Float32Array | Float64Array} Values
 *
 * @typedef {{names: string[], counts: number[]}} Dictionary  Names of a category's codes.
 *
 * @typedef {object} MapView  What the map is.
 * @property {{organization: string, slug: string, identifier: string, description: string, rows: number,
 *   id_field: string}} dataset
 * @property {{id: string, name: string, created: string, rows: number, rows_now: number, modality: string,
 *   indexed_field: string | null, model: string | null, dim: number, metric: string,
 *   quality: Record<string, number | null>, seed: number, options: Record<string, any>,
 *   stages: {name: string, seconds: number, peak_rss_mb: number}[], grown_rows: number, version: number}} map
 * @property {{name: string, type: string, kind: string}[]} fields
 * @property {string | null} title_field
 * @property {string | null} text_field
 * @property {{semantic: boolean, words: boolean, image: boolean, edit: boolean, images: boolean,
 *   duplicates_up_to?: number}} can  `duplicates_up_to`: the largest cut-off, of a map without a server.
 *
 * @typedef {object} Topic
 * @property {number} id
 * @property {number} depth  1 is the coarsest.
 * @property {number | null} parent
 * @property {string} name
 * @property {string} description
 * @property {string[]} keywords
 * @property {number} count
 * @property {number} x
 * @property {number} y
 *
 * @typedef {{topic: number, depth: number, name: string, x: number, y: number, zoom: number, count: number}} Label
 *
 * @typedef {object} Row
 * @property {number} position
 * @property {string | number} id
 * @property {number} x
 * @property {number} y
 * @property {number | null} trust  0 to 1.
 * @property {Record<string, any>} values
 * @property {string[]} cut  Fields whose values were cut short.
 *
 * @typedef {{position: number, score: number}} Hit
 * @typedef {{position: number, id: string | number, distance: number}} Neighbor
 *
 * @typedef {object} Query  One of them.
 * @property {string} [query]
 * @property {number} [position]
 * @property {string} [image]  Base64 of a picture file.
 *
 * @typedef {{column: string, min?: number | null, max?: number | null, codes?: number[], nulls?: boolean}} FieldFilter
 *
 * @typedef {object} Conditions  All of them must hold; the API's own names.
 * @property {string} [where]
 * @property {(number | string)[]} [topics]
 * @property {string[]} [tags]
 * @property {(number | string)[]} [ids]
 * @property {string} [bits]
 * @property {FieldFilter[]} [fields]
 * @property {[number, number][]} [polygon]
 * @property {[number, number, number, number]} [box]
 * @property {Query & {at_least: number}} [heat]
 * @property {{cutoff: number, keep: string, by: string | null}} [duplicates]
 * @property {boolean} [invert]
 *
 * @typedef {object} Heat
 * @property {Uint8Array} values  By position; 0 is `low` and 255 is `high`.
 * @property {number} low
 * @property {number} high
 *
 * @typedef {{bins: number[], nulls: number} |
 *   {codes: number[], counts: number[], other: number, nulls: number}} ColumnCounts
 *
 * @typedef {object} Explanation
 * @property {number} count
 * @property {{phrase: string, share: number, rest: number, score: number}[]} words
 * @property {{column: string, value: string, code: number | null, share: number, rest: number, lift: number,
 *   count: number}[]} fields
 * @property {number[]} exemplars
 * @property {number[]} outliers
 * @property {{id: number, name: string, depth: number, count: number, share: number, rest: number}[]} topics
 *
 * @typedef {{cutoff: number, groups: number, rows: number, deletable: number,
 *   page: {positions: number[], keep: number}[]}} DuplicateGroups
 *
 * @typedef {{name: string, rows: number}} Tag
 * @typedef {{name: string, rows: number, changed: Bits}} TagChange
 *
 * @typedef {object} Source  Where a map comes from: a server, a folder of files, or a notebook.
 * @property {"server" | "static"} kind
 * @property {() => Promise<MapView>} view
 * @property {() => Promise<unknown>} [reach]  Whether it answers, where `view` may come from memory.
 * @property {() => Promise<Manifest>} manifest
 * @property {() => Promise<ColumnInfo[]>} columns
 * @property {() => Promise<Topic[]>} topics
 * @property {() => Promise<Label[]>} labels
 * @property {(tile: Tile, signal?: AbortSignal) => Promise<Uint16Array>} tile  All x, then all y.
 * @property {(column: ColumnInfo, tile: Tile, signal?: AbortSignal) => Promise<Values>} columnTile
 * @property {(column: ColumnInfo) => Promise<Dictionary>} dictionary
 * @property {(tile: Tile, signal?: AbortSignal) => Promise<ImageBitmap | null>} thumbs  Of a tile's first 1,024 rows.
 * @property {(position: number, signal?: AbortSignal) => Promise<ImageBitmap | null>} thumb  Of one, 64 × 64 pixels.
 * @property {(position: number) => Promise<Blob | null>} image
 * @property {(positions: number[], options?: {columns?: string[] | null, longest?: number, signal?: AbortSignal})
 *   => Promise<(Row | null)[]>} rows
 * @property {(position: number, k?: number) => Promise<Neighbor[]>} neighbors
 * @property {(mode: "semantic" | "words" | "hybrid" | "id" | "like" | "image", query: Query, k: number,
 *   conditions?: Conditions, signal?: AbortSignal) => Promise<Hit[]>} find
 * @property {(query: Query, signal?: AbortSignal) => Promise<Heat>} heat
 * @property {(conditions: Conditions, signal?: AbortSignal) => Promise<Bits>} filter
 * @property {(columns: string[], conditions: Conditions, signal?: AbortSignal)
 *   => Promise<{total: number, counts: Record<string, ColumnCounts>}>} counts
 * @property {(conditions: Conditions, signal?: AbortSignal) => Promise<Explanation>} explain
 * @property {() => Promise<Tag[]>} tags
 * @property {(name: string, conditions: Conditions, remove?: boolean) => Promise<TagChange>} tag
 * @property {(name: string) => Promise<void>} deleteTag
 * @property {(options: {cutoff: number, keep: string, by: string | null, offset: number, limit: number,
 *   signal?: AbortSignal}) => Promise<DuplicateGroups>} duplicateGroups
 * @property {(conditions: Conditions, format: "parquet" | "csv" | "jsonl" | "ids") => Promise<Blob>} exportRows
 *
 * @typedef {{x: number, y: number, scale: number}} Camera  The middle of the view in plane coordinates, and CSS
 *   pixels a unit of the plane.
 *
 * @typedef {object} State
 * @property {Camera | null} camera  Null until the first view.
 * @property {"pan" | "lasso" | "box"} tool
 * @property {"light" | "dark" | "auto"} theme
 * @property {string | null} colorBy  Name of a column; null for the coarsest topics, or plain.
 * @property {string | null} sizeBy  Name of a column of numbers.
 * @property {number} pointSize  Times the usual size.
 * @property {boolean} density
 * @property {boolean} contours
 * @property {boolean} showLabels
 * @property {boolean} showThumbs
 * @property {Conditions} filters  As the user set them.
 * @property {Bits | null} passing  What the filters let pass; null without filters.
 * @property {Bits | null} living  Rows that were not deleted since the map was made; null where that is all of them.
 * @property {Bits | null} selection
 * @property {string} selectionName  What the selection is, in words.
 * @property {Heat | null} heat
 * @property {Query | null} heatQuery
 * @property {number | null} heatThreshold  A score: rows below it fade.
 * @property {number | null} hover
 * @property {number | null} focus  The row whose details are shown.
 * @property {Neighbor[]} focusNeighbors
 * @property {Hit[]} hits
 * @property {string} hitsName
 * @property {string | null} panel  Which side panel is open.
 * @property {boolean} offline  The server does not answer.
 * @property {boolean} busy
 *
 * @typedef {object} Renderer
 * @property {Promise<void>} begun  Fulfilled once there is something on the screen.
 * @property {HTMLElement} element  Holds the canvases; pointer events arrive here.
 * @property {(position: number) => [number, number] | null} placeOf  Plane coordinates of a loaded point.
 * @property {(x: number, y: number) => [number, number]} toScreen  Plane to CSS pixels of the element.
 * @property {(x: number, y: number) => [number, number]} toPlane
 * @property {(x: number, y: number, radius?: number) => number | null} pick  The nearest drawn point at CSS pixels.
 * @property {(target: Partial<Camera>, options?: {animate?: boolean}) => void} moveTo
 * @property {(bounds: [number, number, number, number], options?: {animate?: boolean}) => void} fit
 * @property {() => void} fitAll
 * @property {(listener: () => void) => () => void} onFrame  Called after each drawn frame; returns how to stop.
 * @property {() => void} requestFrame
 * @property {(positions: number[]) => Promise<[number, number][]>} locate  Loads what is needed.
 * @property {(options?: {scale?: number}) => Promise<HTMLCanvasElement>} snapshot  Points as they are on screen.
 * @property {() => string} zoomText
 * @property {() => number} zoom  log2 of the root's side in thousands of CSS pixels; as labels count it.
 * @property {() => {code: number, name: string, color: string, count: number}[]} legend  Of a category; else empty.
 * @property {() => {column: ColumnInfo | null, dictionary: Dictionary | null, colors: string[],
 *   stops?: number[], neutral?: string}} coloring  `stops`: values at even steps of a ramp.
 * @property {(listener: () => void) => () => void} onColoring  Called when colours mean something else; returns how to
 *   stop.
 * @property {() => string} background  The colour behind the points.
 * @property {() => {frameMs: number, drawn: number, loaded: number, total: number, tiles: number, budget: number,
 *   bytes: number, settled: boolean}} stats  `drawn`: points in the picture; `settled`: all that is in view is drawn.
 * @property {() => void} destroy
 *
 * @typedef {object} Actions  What more than one part of the page does; app.js has them.
 * @property {(text: string, kind?: "info" | "error" | "success", action?: {label: string, run: () => void})
 *   => void} say  A short message, read out.
 * @property {<T>(work: Promise<T>, what: string) => Promise<T | null>} attempt  Awaits; tells of a failure; null then.
 * @property {(selection: Bits | null, name: string) => void} select
 * @property {(conditions: Conditions, name: string, combine?: "new" | "add" | "remove" | "within") => Promise<void>}
 *   selectWhere
 * @property {(filters: Conditions) => Promise<void>} filter
 * @property {(position: number | null, options?: {move?: boolean}) => Promise<void>} focus
 * @property {(bits: Bits | null) => Conditions} conditionsOf  Of a set of rows; of all that pass where it is null.
 *
 * @typedef {object} App
 * @property {HTMLElement} root
 * @property {Store} store
 * @property {Source} source
 * @property {Renderer} renderer
 * @property {Actions} actions
 * @property {MapView} view
 * @property {Manifest} manifest
 * @property {AbortSignal} signal  Aborted when the app is taken down.
 */

export {};
