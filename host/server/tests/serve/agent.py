"""The official client of the Model Context Protocol, over HTTP or standard input and output, as agents use it.

Run by mcp.rs: `agent.py http PORT AUTHORIZATION` against a server that holds the five notes, or `agent.py stdio PROGRAM FOLDER`,
which starts the program over a folder that does.
"""

import sys

import anyio
import httpx2
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

LONG = {"turns": 8, "beam": 4, "budget": {"ms": 60_000}}


async def tools(client):
    listed = await client.list_tools()
    assert [tool.name for tool in listed.tools] == ["search", "adaptive_search", "fetch_document"]
    assert all(tool.annotations.read_only_hint and tool.output_schema for tool in listed.tools)

    async def call(name, **arguments):
        # The client checks what comes back against the tool's output schema.
        result = await client.call_tool(name, arguments)
        assert not result.is_error, result
        return result.structured_content

    # One look: by words, in the only index; with a filter; the encoder is not there.
    found = await call("search", query="lamp reef", k=3, mode="lexical")
    assert found["index"] == "notes" and found["mode"] == "lexical" and found["note"] is None, found
    first = found["documents"][0]
    assert (first["rank"], first["id"], first["title"]) == (1, "d0", "the lamp of the reef"), found
    assert "lamp of the reef" in first["snippet"] and len(found["documents"]) <= 3
    filtered = await call("search", query="lamp reef", index="notes", mode="lexical", filter="year >= 301 AND kind:odd")
    assert {one["id"] for one in filtered["documents"]} <= {"d1", "d3"} and filtered["documents"], filtered
    substituted = await call("search", query="lamp reef", mode="dense")
    assert substituted["mode"] == "lexical" and "encoder" in substituted["note"], substituted

    # Several looks, with progress and a tree.
    steps = []

    async def heard(progress, total, message):
        steps.append((progress, message))

    result = await client.call_tool(
        "adaptive_search",
        {"query": "who keeps the lamp", "strategy": "beam", "turns": 2, "beam": 1, "k": 4, "seed": 7},
        progress_callback=heard,
    )
    answer = result.structured_content
    assert answer["degraded"] is None and answer["strategy"] == "beam", answer
    assert 1 <= len(answer["documents"]) <= 4 and answer["spent"]["retrievals"] >= 1, answer
    assert answer["tree"][0]["query"] == "who keeps the lamp" and len(answer["tree"]) > 1, answer
    assert answer["tree"][0]["parent"] is None and any(step["in_answer"] for step in answer["tree"]), answer
    assert steps and [number for number, _ in steps] == sorted(number for number, _ in steps), steps
    assert steps[0][1].startswith("turn "), steps
    scarce = await call("adaptive_search", query="who keeps the lamp", turns=3, budget={"retrievals": 2})
    assert scarce["spent"]["retrievals"] <= 2 and scarce["partial"], scarce

    # One document, whole or cut.
    document = await call("fetch_document", id=first["id"])
    assert document["document"]["title"] == "the lamp of the reef" and not document["cut"], document
    document = await call("fetch_document", id=first["id"], index="notes", max_chars=3)
    assert document["document"]["title"] == "the…" and document["cut"], document

    # Slips are told to the agent, with what would have been right.
    for name, arguments, said in [
        ("search", {"query": "x", "index": "none"}, "no such index [none]; there are [notes]"),
        ("search", {"query": "x", "k": 0}, "k: expected 1 to 100, got 0"),
        ("search", {"query": " "}, "query: expected some text"),
        ("search", {"query": "x", "mode": "best"}, "unknown variant `best`"),
        ("search", {"query": "x", "depth": 3}, "unknown field `depth`"),
        ("search", {"query": "x", "filter": "year >="}, "filter"),
        ("adaptive_search", {"query": "x", "strategy": "none such"}, "there is none of that name"),
        ("adaptive_search", {"query": "x", "turns": "many"}, "invalid type"),
        ("fetch_document", {"id": "nobody"}, "index [notes] has no document [nobody]"),
        ("fetch_document", {}, "missing field `id`"),
    ]:
        result = await client.call_tool(name, arguments)
        assert result.is_error and said in result.content[0].text, (name, arguments, result)
    try:
        await client.call_tool("delete_everything", {})
        raise AssertionError("a tool that is not there")
    except MCPError as error:
        assert "there is no tool `delete_everything`" in str(error), error

    # A call that is given up ends; the next one is answered.
    with anyio.CancelScope() as scope:

        async def give_up(progress, total, message):
            scope.cancel()

        await client.call_tool("adaptive_search", {"query": "who keeps the lamp", **LONG}, progress_callback=give_up)
        raise AssertionError("the call was not given up")
    again = await call("search", query="lamp", mode="lexical")
    assert again["documents"], again


async def over_http(port, authorization):
    headers = {"authorization": authorization}
    for mode in ["auto", "legacy"]:
        async with httpx2.AsyncClient(headers=headers, timeout=300) as http:
            transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                assert "notes: 5 documents" in client.instructions, client.instructions
                await tools(client)


async def over_stdio(program, folder):
    server = StdioServerParameters(command=program, args=["mcp"], cwd=folder)
    for mode in ["auto", "legacy"]:
        async with Client(server, mode=mode) as client:
            assert "notes: 5 documents, metadata kind (keyword), year (number)" in client.instructions
            await tools(client)


if sys.argv[1] == "http":
    anyio.run(over_http, sys.argv[2], sys.argv[3])
else:
    anyio.run(over_stdio, sys.argv[2], sys.argv[3])
print("all done")
