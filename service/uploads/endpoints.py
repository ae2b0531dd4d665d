"""POST /saes/uploads and DELETE /saes/uploads/{id}"""

from __future__ import annotations

import datetime as dt
import errno
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from monosemy.errors import DataError
from monosemy.formats.archive import Limits
from monosemy.specs.rest.uploads import Upload, UploadedFile
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep, SessionDep
from service.edge.routing import ApiRouter, body_limit
from service.keys.authorize import CallerDep, CanRun
from service.keys.ownership import check_owner
from service.kit.errors import InvalidRequest, NotFound, Unavailable
from service.kit.problems import documented
from service.uploads import store
from service.uploads.receive import receive

PATH = "/saes/uploads"

router = ApiRouter(prefix=PATH, tags=["saes"], dependencies=[CanRun])

logger = logging.getLogger(__name__)

FILES_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "One .zip, .tar, .tar.gz or .tgz, or the files of an SAE"
                            " folder one by one.",
                        }
                    },
                    "required": ["files"],
                }
            }
        },
    }
}


@router.post(
    "",
    status_code=201,
    summary="Upload an SAE",
    openapi_extra=FILES_BODY,
    responses=documented(409, 413, 415, 422),
)
@body_limit(lambda settings: settings.upload_max_bytes)
async def upload(
    request: Request, response: Response, context: ContextDep, caller: CallerDep
) -> Upload:
    """An SAE folder of any format that an import reads, to be imported, as an archive or
    file by file. Taken are JSON, YAML, safetensors, npz and text; pickled weights never are."""
    settings = context.settings
    workspace = Workspace(settings.artifacts)
    limits = Limits(total_bytes=settings.upload_max_unpacked_bytes)
    quota = store.Quota()
    if settings.require_keys:
        quota = store.Quota(settings.upload_key_count, settings.upload_key_bytes)

    def begin() -> tuple[uuid.UUID, Path]:
        with transaction(context.engine) as session:
            return store.begin(session, workspace, caller.key, quota)

    def admit(size: int) -> None:
        with transaction(context.engine) as session:
            store.check_room(session, workspace, identity, size, quota)

    def abandon() -> None:
        store.abandon(incoming)
        if not store.exists(workspace, identity):
            with transaction(context.engine) as session:
                store.forget(session, identity)

    with _told():
        await run_in_threadpool(_sweep, context, workspace)
        identity, incoming = await run_in_threadpool(begin)
        try:
            files = await receive(request, incoming, limits.members)
            sizes = await run_in_threadpool(
                store.finish, workspace, identity, incoming, files, limits, admit
            )
        finally:
            await run_in_threadpool(abandon)
    response.headers["Location"] = f"{settings.path_prefix}/api/v1{PATH}/{identity}"
    return Upload(
        id=identity,
        source=f"{store.PREFIX}{identity}",
        files=[UploadedFile(name=name, bytes=size) for name, size in sizes.items()],
        bytes=sum(sizes.values()),
        expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(hours=settings.upload_keep_hours),
    )


@router.delete(
    "/{upload}", status_code=204, summary="Delete an upload", responses=documented(404, 422)
)
def delete(session: SessionDep, context: ContextDep, caller: CallerDep, upload: uuid.UUID) -> None:
    """An import that names it and has not begun will fail. Only for the API key that sent it and
    for administrators."""
    workspace = Workspace(context.settings.artifacts)
    if not store.exists(workspace, upload):
        raise NotFound("upload", upload)
    check_owner(caller, store.owner_of(session, upload), "the upload")
    with _told():
        store.forget(session, upload)
        if not store.remove(workspace, upload):
            raise NotFound("upload", upload)


def _sweep(context: AppContext, workspace: Workspace) -> None:
    with transaction(context.engine) as session:
        store.remove_stale(session, workspace, context.settings.upload_keep_hours)


@contextmanager
def _told() -> Iterator[None]:
    """422 for what is wrong with the files, 503 for what is wrong with the disk."""
    try:
        yield
    except DataError as error:
        raise InvalidRequest([("files", str(error))]) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        logger.warning("an upload could not be stored", exc_info=error)
        detail = "The disk for artifacts is full." if full else "Artifacts cannot be written."
        raise Unavailable("The artifact store", detail) from None
