"""Embed texts through one real client and print the vectors as JSON: `python_clients.py CLIENT URL MODEL TASK < texts`.

Runs in the clients' own environment, without our package. HOME is a folder of the test's.
"""

import json
import os
import sys

KEY = "nk-" + "k" * 43


def nomic(url, model, task, texts):
    os.environ["ATLAS_API_PATH"] = url
    from nomic import embed, login

    login(KEY)
    return embed.text(texts, model=model, task_type=task, inference_mode="remote")["embeddings"]


def openai(url, model, task, texts):
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key=KEY)
    assert model in {entry.id for entry in client.models.list()}
    answer = client.embeddings.create(model=f"{model}:{task}", input=texts)
    assert answer.usage.total_tokens > 0
    return [item.embedding for item in answer.data]


def openai_float(url, model, task, texts):
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key=KEY)
    extra = {"extra_body": {"task_type": task}}
    return [
        item.embedding
        for item in client.embeddings.create(model=model, input=texts, encoding_format="float", **extra).data
    ]


def ollama(url, model, task, texts):
    from ollama import Client

    client = Client(host=url)
    assert any(entry.model.startswith(model) for entry in client.list().models)
    assert client.show(model).modelinfo["nomic-bert.context_length"] > 0
    return client.embed(model=f"{model}:{task}", input=texts).embeddings


def ollama_one_by_one(url, model, task, texts):
    from ollama import Client

    client = Client(host=url)
    return [client.embeddings(model=f"{model}:{task}", prompt=text).embedding for text in texts]


def cohere(url, model, task, texts):
    from cohere import ClientV2

    client = ClientV2(api_key=KEY, base_url=url)
    answer = client.embed(model=model, texts=texts, input_type=task, embedding_types=["float", "int8"])
    assert len(answer.embeddings.int8) == len(texts)
    return answer.embeddings.float


def huggingface_hub(url, model, task, texts):
    from huggingface_hub import InferenceClient

    client = InferenceClient(base_url=f"{url}/embed")
    return [client.feature_extraction(text, prompt_name=task)[0].tolist() for text in texts]


def langchain_nomic(url, model, task, texts):
    os.environ["ATLAS_API_PATH"] = url
    from langchain_nomic import NomicEmbeddings

    embedder = NomicEmbeddings(model=model, nomic_api_key=KEY, inference_mode="remote")
    if task == "search_query":
        return [embedder.embed_query(text) for text in texts]
    return embedder.embed(texts, task_type=task)


def langchain_openai(url, model, task, texts):
    from langchain_openai import OpenAIEmbeddings

    embedder = OpenAIEmbeddings(
        model=f"{model}:{task}", base_url=f"{url}/v1", api_key=KEY, check_embedding_ctx_length=False
    )
    return embedder.embed_documents(texts)


def langchain_ollama(url, model, task, texts):
    from langchain_ollama import OllamaEmbeddings

    return OllamaEmbeddings(model=f"{model}:{task}", base_url=url).embed_documents(texts)


def llama_index(url, model, task, texts):
    os.environ["ATLAS_API_PATH"] = url
    from llama_index.embeddings.nomic import NomicEmbedding

    embedder = NomicEmbedding(
        model_name=model, vision_model_name=None, api_key=KEY, document_task_type=task, dimensionality=None
    )
    return embedder.get_text_embedding_batch(texts)


CLIENTS = {
    function.__name__: function
    for function in (
        nomic, openai, openai_float, ollama, ollama_one_by_one, cohere, huggingface_hub, langchain_nomic,
        langchain_openai, langchain_ollama, llama_index,
    )
}  # fmt: skip

if __name__ == "__main__":
    name, url, model, task = sys.argv[1:]
    rows = CLIENTS[name](url, model, task, json.load(sys.stdin))
    sys.stdout.write("\n" + json.dumps([list(map(float, row)) for row in rows]) + "\n")
