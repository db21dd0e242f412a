"""The HTTP face: `POST /v1/renders` and `GET /health`, thin over one function.

There are no API keys and no rate limits yet: whoever reaches the port may render, which is why the server listens on
127.0.0.1 unless told otherwise. Put a proxy that authenticates before it when others shall reach it.
"""

from __future__ import annotations

import asyncio
import difflib
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray import serve
from ray.exceptions import RayError
from ray.serve.schema import ReplicaState  # type: ignore[attr-defined]  # what its own annotations use
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.executors.placement import Placement
from pipelines.graph import build
from pipelines.recipe import Recipe
from pipelines.rows import Row
from serve.answers import VERSION, answer
from serve.errors import Refused
from serve.executor import GraphOf, Pipeline, deployments, most_requests
from serve.requests import Asked, parse_columns, refused_recipe, to_row
from serve.schemas import Answer, ErrorAnswer, Health
from serve.served import Served

MAX_BODY_BYTES = 60_000_000
BESIDE_THE_RENDERS = 16
"""The ingress takes so many requests more than may render, so that health is answered while all of those wait."""
HEALTH_TIMEOUT_S = 5

Render = Callable[[Row, Recipe], Awaitable[Row]]
Ready = Callable[[], Awaitable[bool]]

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "A field is missing or cannot be read."},
    413: {"model": ErrorAnswer, "description": "The request is too large."},
    415: {"model": ErrorAnswer, "description": "The request is no multipart form."},
    422: {"model": ErrorAnswer, "description": "A field, the recipe or the picture cannot be used; `code` says why."},
    500: {"model": ErrorAnswer, "description": "The server is broken: a bug, weights or storage."},
    503: {"model": ErrorAnswer, "description": "Too much is waiting, or a worker is restarting; see `Retry-After`."},
}


class LimitBody:
    """An ASGI layer that refuses bodies over a limit: by Content-Length, and by counting what really comes."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with a counter in its stream."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self.max_bytes:
            await _refuse(self._too_large(f"{announced.decode('latin-1')} bytes are announced"))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                # Of all exceptions FastAPI's form parser lets this one through as it is.
                raise HTTPException(413, self._too_large("more came").message)
            return message

        await self.app(scope, counted, send)

    def _too_large(self, found: str) -> Refused:
        return Refused(413, "too_large", f"the request may have {self.max_bytes} bytes; {found}", "Send smaller files.")


def build_app(served: Served, render: Render, ready: Ready, max_body_bytes: int = MAX_BODY_BYTES) -> FastAPI:
    """The application: what is served, the function that renders, and whether it can; it knows nothing of Ray."""
    app = FastAPI(title="Packshot", version=VERSION, description="Repaint products; prove the rest untouched.")
    app.add_middleware(LimitBody, max_bytes=max_body_bytes)
    _say_errors_alike(app)

    @app.post("/v1/renders", responses=ERRORS)
    async def create_render(
        request: Request,
        image: Annotated[UploadFile, File(description="The picture: JPEG, PNG, WebP, TIFF, GIF or BMP.")],
        mask: Annotated[UploadFile | None, File(description="White is repainted; as large as the picture.")] = None,
        reference: Annotated[list[UploadFile] | None, File(description="What the product looks like; several.")] = None,
        recipe: Annotated[str | None, Form(description="A ready recipe's name, or YAML or JSON text.")] = None,
        find: Annotated[str | None, Form(description="What to look for, in place of the recipe's template.")] = None,
        prompt: Annotated[list[str] | None, Form(description="What to paint, likewise; variants take turns.")] = None,
        negative_prompt: Annotated[str | None, Form(description="What the painter keeps away from, likewise.")] = None,
        seed: Annotated[list[int] | None, Form(description="The variants' seeds, one each; several.")] = None,
        variants: Annotated[int | None, Form(ge=1, le=64, description="How many candidates to paint.")] = None,
        columns: Annotated[str | None, Form(description="What templates name, as a JSON object of values.")] = None,
    ) -> Answer:
        """Find the product, repaint it, judge the candidates, and prove that the rest is untouched.

        200 with `status: rejected` is an answer: nothing was found, or nothing was good enough; `reason` says which.
        """
        _check_fields(fields, await request.form(), request.query_params)
        asked = Asked(
            image=await image.read(),
            mask=await mask.read() if mask else None,
            references=tuple([await one.read() for one in reference or ()]),
            recipe=_given(recipe),
            find=_given(find),
            prompts=tuple(one for one in prompt or () if one.strip()),
            negative_prompt=negative_prompt,
            seeds=_seeds(seed or []),
            variants=variants,
            columns=parse_columns(columns),
        )
        row, wanted = to_row(asked, served)
        return answer(await render(row, wanted), wanted, served)

    fields = [name for name in inspect.signature(create_render).parameters if name != "request"]

    @app.get("/health", responses={503: {"model": Health, "description": "Models are still loading, or lost."}})
    async def health() -> JSONResponse:
        """Whether a request sent now would be rendered: every model is loaded."""
        is_ready = await ready()
        state = Health(
            status="ready" if is_ready else "starting", version=VERSION, recipes=served.names, models=served.weights()
        )
        return JSONResponse(state.model_dump(mode="json"), 200 if is_ready else 503)

    return app


def _check_fields(known: Collection[str], form: Iterable[str], in_address: Iterable[str]) -> None:
    """Refuse what would be ignored, so that a slip of typing cannot pass as a default."""
    hint = f"The form's fields are {', '.join(known)}; a stage's own settings go into `recipe`."
    for name in in_address:
        message = f"`{name}` stands in the address, of which nothing is read; send fields in the form"
        raise Refused(422, "unknown_field", message, hint)
    for name in form:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            raise Refused(422, "unknown_field", f"`{name}` is not a field of the form{meant}", hint)


def _in_words(problem: Mapping[str, Any]) -> str:
    """What was wrong with one field of the form, which FastAPI tells in Python's words."""
    name = problem["loc"][1] if len(problem["loc"]) > 1 else problem["loc"][0]
    if problem["type"] == "missing":
        return f"`{name}` is missing"
    if "UploadFile" in problem["msg"]:
        return f"`{name}` is text; expected a file, which curl sends as -F {name}=@photo.jpg"
    return f"`{name}`: {problem['msg']}"


def _given(text: str | None) -> str | None:
    """A form's empty field was not filled in."""
    return text if text and text.strip() else None


def _seeds(seeds: list[int]) -> tuple[int, ...]:
    for seed in seeds:
        if not 0 <= seed < 2**63:
            raise Refused(400, "bad_request", f"`seed` is {seed}", "Send a whole number from 0 to 2**63 - 1.")
    return tuple(seeds)


# --- errors


def _refuse(error: Refused) -> JSONResponse:
    return JSONResponse(error.body, error.status, error.headers)


def _say_errors_alike(app: FastAPI) -> None:
    """Give every error one shape; what is none of ours is told in general terms, and logged by the server."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return _refuse(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        kind = request.headers.get("content-type", "")
        if not kind.startswith("multipart/form-data"):
            message = f"the request is of type {kind!r}; expected a multipart form"
            return _refuse(Refused(415, "not_a_form", message, "With curl: -F image=@photo.jpg"))
        problems = dict.fromkeys(_in_words(problem) for problem in error.errors())
        return _refuse(Refused(400, "bad_request", "; ".join(problems), "See /docs for every field."))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(error.status_code, "bad_request")
        hint = "Send smaller files." if error.status_code == 413 else "See /docs for what is here."
        refusal = _refuse(Refused(error.status_code, code, str(error.detail), hint))
        refusal.headers.update(error.headers or {})
        return refusal

    @app.exception_handler(ConfigError)
    async def bad_recipe(request: Request, error: ConfigError) -> JSONResponse:
        return _refuse(refused_recipe(error))

    @app.exception_handler(InfrastructureError)
    async def infrastructure(request: Request, error: InfrastructureError) -> JSONResponse:
        return _refuse(Refused(500, "infrastructure", str(error), "Tell whoever runs this server."))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        phrase = HTTPStatus.INTERNAL_SERVER_ERROR.phrase
        return _refuse(Refused(500, "unexpected", phrase, "Look at the server's log; please report it."))


# --- on Ray Serve


class Ingress:
    """The server's ingress as a deployment: it parses, answers and holds no model."""

    def __init__(self, served: Served, max_body_bytes: int, *groups: Any) -> None:
        self.served = served
        self.max_body_bytes = max_body_bytes
        self.pipeline = Pipeline(groups)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve asks for the application in the replica, since one with middleware cannot be pickled."""
        return build_app(self.served, self.pipeline, self.ready, self.max_body_bytes)

    async def ready(self) -> bool:
        """Whether each deployment has a running replica: those load their weights before they run."""
        try:
            status = await asyncio.wait_for(asyncio.to_thread(serve.status), HEALTH_TIMEOUT_S)
        except (TimeoutError, RayError):
            return False
        application = status.applications.get(serve.get_replica_context().app_name)
        return application is not None and all(
            deployment.replica_states.get(ReplicaState.RUNNING, 0) > 0
            for deployment in application.deployments.values()
        )


def application(
    served: Served, placement: Placement, graph_of: GraphOf = build, max_body_bytes: int = MAX_BODY_BYTES
) -> serve.Application:
    """The whole server, ready for `serve.run`: an ingress, and behind it one deployment a group of the placement."""
    ingress: Any = serve.deployment(
        serve.ingress()(Ingress),
        name="ingress",
        max_ongoing_requests=most_requests(placement) + BESIDE_THE_RENDERS,
        ray_actor_options={"num_cpus": 0},
    )
    bound: serve.Application = ingress.bind(served, max_body_bytes, *deployments(placement, served.recipes, graph_of))
    return bound
