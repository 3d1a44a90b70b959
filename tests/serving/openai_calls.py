"""The calls that an application makes, with the `openai` client and with LangChain, unchanged."""

import openai
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import SecretStr


def calls(base_url: str, key: str, model: str, content: str, words: int) -> dict[str, str]:
    """Make each call; return what was answered, by call."""
    ask: list[ChatCompletionMessageParam] = [{"role": "user", "content": content}]
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        chat = client.chat.completions.create(model=model, messages=ask, max_tokens=words)
        assert chat.usage
        assert chat.usage.completion_tokens == words
        with client.chat.completions.create(
            model=model,
            messages=ask,
            max_tokens=words,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            events = list(stream)
        assert events[-1].usage
        assert events[-1].usage.completion_tokens == words
        parts = [one.choices[0].delta.content or "" for one in events if one.choices]
        plain = client.completions.create(model=model, prompt=content, max_tokens=words)
        assert plain.usage
        assert plain.usage.completion_tokens == words
        # Token ids, one prompt and several, are a prompt, too.
        assert client.completions.create(model=model, prompt=[1, 2, 3], max_tokens=2).choices
        several = client.completions.create(model=model, prompt=[[1, 2], [3]], max_tokens=2)
        assert several.choices
        assert model in [one.id for one in client.models.list()]
        assert client.models.retrieve(model).id == model
    chain = ChatOpenAI(
        model=model,
        base_url=base_url,
        api_key=SecretStr(key),
        max_retries=0,
        max_completion_tokens=words,
    )
    whole = chain.invoke([HumanMessage(content)])
    assert whole.usage_metadata
    assert whole.usage_metadata["output_tokens"] == words
    pieces = [str(one.content) for one in chain.stream([HumanMessage(content)])]
    return {
        "chat": chat.choices[0].message.content or "",
        "stream": "".join(parts),
        "completion": plain.choices[0].text,
        "langchain": str(whole.content),
        "langchain stream": "".join(pieces),
    }
