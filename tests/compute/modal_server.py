"""A local Modal that really runs a sandbox's command, as a process of this machine.

It speaks the gRPC protocol of Modal's client for what `ftdm_assets.compute.modal_sandbox` asks:
apps, images, secrets by name, sandboxes with their logs, tags and ends. `cut` counts, by method,
answers that are lost after the work was done.
"""

import asyncio
import base64
import itertools
import json
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpclib.server
from grpclib import GRPCError, Status
from modal_proto import api_grpc, api_pb2

from tests.compute.local_container import LocalContainer

_RESULT = api_pb2.GenericResult
_FIRST_ID = 10**21  # Sandboxes that ask for a GPU have ids of 22 letters.


@dataclass
class SandboxOnServer:
    """A sandbox as the server knows it."""

    request: Any
    container: LocalContainer
    status: Any = None

    def result(self) -> Any:
        """Return how it ended; one without a status while it runs."""
        if self.container.ended is None:
            return _RESULT()
        code = self.container.wait()
        done = _RESULT.GENERIC_STATUS_SUCCESS if code == 0 else _RESULT.GENERIC_STATUS_FAILURE
        return _RESULT(status=self.status or done, exitcode=code)


@dataclass
class ModalServer:
    """The server; `secrets` holds variables by the name of a deployed secret."""

    folder: Path
    environment: dict[str, str]
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    sandboxes: dict[str, SandboxOnServer] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    tokens: set[str] = field(default_factory=set)
    url: str = ""

    def __post_init__(self) -> None:
        self._numbers = itertools.count(_FIRST_ID)
        self._secret_ids: dict[str, dict[str, str]] = {}
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def close(self) -> None:
        for sandbox in self.sandboxes.values():
            if sandbox.container.process.poll() is None:
                sandbox.container.process.kill()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def named(self, name: str) -> list[SandboxOnServer]:
        """Return the sandboxes that had a name, the newest last."""
        return [one for one in self.sandboxes.values() if one.request.definition.name == name]

    def end(self, name: str, status: Any) -> None:
        """End a sandbox as Modal does: out of time, or terminated."""
        sandbox = self.named(name)[-1]
        sandbox.status = status
        sandbox.container.stop()

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)

        async def run() -> None:
            self._stop = asyncio.Event()
            server = grpclib.server.Server([_servicer(self)])
            own = socket.create_server(("127.0.0.1", 0))
            await server.start(sock=own)
            self.url = f"http://127.0.0.1:{own.getsockname()[1]}"
            started.set()
            await self._stop.wait()
            server.close()
            await server.wait_closed()

        self._loop.run_until_complete(run())
        self._loop.close()

    def _AppGetOrCreate(self, _: Any) -> Any:  # noqa: N802
        return api_pb2.AppGetOrCreateResponse(app_id="ap-1")

    def _ClientHello(self, _: Any) -> Any:  # noqa: N802
        return api_pb2.ClientHelloResponse(image_builder_version="2025.06")

    def _AuthTokenGet(self, _: Any) -> Any:  # noqa: N802
        claims = json.dumps({"exp": time.time() + 3600}).encode()
        token = f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.x"
        return api_pb2.AuthTokenGetResponse(token=token)

    def _SandboxGetFromNameV2(self, _: Any) -> Any:  # noqa: N802
        raise GRPCError(Status.NOT_FOUND, "no sandbox without a GPU has this name")

    def _EnvironmentGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        settings = api_pb2.EnvironmentSettings(image_builder_version="2025.06")
        metadata = api_pb2.EnvironmentMetadata(name=request.deployment_name, settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    def _ImageGetOrCreate(self, _: Any) -> Any:  # noqa: N802
        built = _RESULT(status=_RESULT.GENERIC_STATUS_SUCCESS)
        return api_pb2.ImageGetOrCreateResponse(image_id="im-1", result=built)

    def _SecretGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        if request.deployment_name and request.deployment_name not in self.secrets:
            raise GRPCError(Status.NOT_FOUND, f"No Secret named '{request.deployment_name}'")
        held = self.secrets.get(request.deployment_name) or dict(request.env_dict)
        name = f"st-{next(self._numbers)}"
        self._secret_ids[name] = held
        return api_pb2.SecretGetOrCreateResponse(secret_id=name)

    def _SandboxCreate(self, request: Any) -> Any:  # noqa: N802
        definition = request.definition
        if self._running(definition.name):
            raise GRPCError(Status.ALREADY_EXISTS, f"Sandbox '{definition.name}' exists already")
        name = f"sb-{next(self._numbers)}"
        held = [self._secret_ids[one] for one in definition.secret_ids]
        environment = dict(self.environment)
        for variables in held:
            environment |= variables
        environment["FTDM_ML_ROOT"] = str(self.folder / name / "ml")
        container = LocalContainer.run(
            list(definition.entrypoint_args), environment, self.folder / name
        )
        self.sandboxes[name] = SandboxOnServer(request, container)
        return api_pb2.SandboxCreateResponse(sandbox_id=name)

    def _running(self, name: str) -> str:
        return next(
            (
                key
                for key, one in self.sandboxes.items()
                if one.request.definition.name == name and one.container.ended is None
            ),
            "",
        )

    def _SandboxGetTaskId(self, request: Any) -> Any:  # noqa: N802
        return api_pb2.SandboxGetTaskIdResponse(task_id=f"ta-{request.sandbox_id}")

    def _SandboxGetFromName(self, request: Any) -> Any:  # noqa: N802
        found = self._running(request.sandbox_name)
        if not found:
            raise GRPCError(Status.NOT_FOUND, f"no running sandbox '{request.sandbox_name}'")
        return api_pb2.SandboxGetFromNameResponse(sandbox_id=found)

    def _SandboxWait(self, request: Any) -> Any:  # noqa: N802
        return api_pb2.SandboxWaitResponse(result=self.sandboxes[request.sandbox_id].result())

    def _SandboxTagsGet(self, request: Any) -> Any:  # noqa: N802
        return api_pb2.SandboxTagsGetResponse(tags=self.sandboxes[request.sandbox_id].request.tags)

    def _SandboxTerminate(self, request: Any) -> Any:  # noqa: N802
        sandbox = self.sandboxes[request.sandbox_id]
        if sandbox.container.ended is None:
            sandbox.status = _RESULT.GENERIC_STATUS_TERMINATED
            sandbox.container.stop()
        return api_pb2.SandboxTerminateResponse()

    async def logs(self, stream: Any) -> None:
        """Send the lines as they come; all are standard output."""
        request = await stream.recv_message()
        sandbox = self.sandboxes[request.sandbox_id]
        sent = int(request.last_entry_id or 0)
        mine = request.file_descriptor == api_pb2.FILE_DESCRIPTOR_STDOUT
        while True:
            ended = sandbox.container.ended is not None
            for _, line in sandbox.container.lines[sent:] if mine else ():
                sent += 1
                item = api_pb2.TaskLogs(data=f"{line}\n", file_descriptor=request.file_descriptor)
                await stream.send_message(api_pb2.TaskLogsBatch(items=[item], entry_id=str(sent)))
            if ended:
                await stream.send_message(api_pb2.TaskLogsBatch(eof=True, entry_id=str(sent)))
                return
            await asyncio.sleep(0.05)


def _servicer(server: ModalServer) -> Any:
    """Return the gRPC service: what the server has, and errors for all else."""

    def handler(name: str) -> Any:
        async def handle(_: Any, stream: Any) -> None:
            server.calls[name] += 1
            if server.tokens and stream.metadata.get("x-modal-token-secret") not in server.tokens:
                raise GRPCError(Status.UNAUTHENTICATED, "Token ID is malformed")
            if name == "SandboxGetLogs":
                await server.logs(stream)
                return
            answer = getattr(server, f"_{name}", None)
            if answer is None:
                raise GRPCError(Status.UNIMPLEMENTED, f"{name} is not spoken here")
            message = answer(await stream.recv_message())
            if server.cut[name] > 0:
                server.cut[name] -= 1
                raise GRPCError(Status.UNAVAILABLE, "the connection was lost")
            await stream.send_message(message)

        return handle

    names = api_grpc.ModalClientBase.__abstractmethods__
    made = type("Servicer", (api_grpc.ModalClientBase,), {name: handler(name) for name in names})
    return made()
