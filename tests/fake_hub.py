# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
A model hub of the standard library: what `huggingface_hub`, `transformers` and `datasets` ask of one, kept in memory.

Repositories have branches and commits; files are answered with the commit and an ETag. Reading is free, writing needs
the token, and only to repositories of the one user. Nothing here knows leverplus_trl.
"""

import base64
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


USER, TOKEN = "user", "hf_of_the_user"
#: Everything but text is stored as on the hub: uploaded by its hash, then named in a commit.
LARGE = (".safetensors", ".parquet", ".png", ".bin", ".arrow")
WHEN = "2026-01-01T00:00:00.000Z"


def blob_id(content: bytes) -> str:
    """What git calls a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    """Snapshots `{path: content}` by commit, and branches."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        text = json.dumps([self.branches.get(branch), len(self.commits), message, sorted(files)])
        name = hashlib.sha1(text.encode()).hexdigest()
        self.commits[name], self.branches[branch] = files, name
        return name

    def find(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class Refusal(Exception):
    def __init__(self, status: int, code: str = "", message: str = ""):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class FakeHub:
    """
    The server, in a thread of its own while the context lasts.

    `repositories` holds `{"models/user/name": Repository}`, `requests` what was asked, as `"GET /path"`.
    """

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.lock = threading.RLock()
        handler = type("Handler", (HubHandler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "FakeHub":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: os.PathLike, token: str | None = TOKEN) -> dict[str, str]:
        """
        Environment of a process whose hub this is: `huggingface_hub` reads it when it is imported, so that only a new
        process can be pointed here.
        """
        dropped = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE")
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            environment.pop(name, None), environment.pop(name.upper(), None)
        environment |= {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        return environment | ({"HF_TOKEN": token} if token else {})

    def files(self, kind: str, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """What a repository holds, `{path: content}`; `kind` is `"models"` or `"datasets"`."""
        repository = self.repositories[f"{kind}/{repo_id}"]
        return repository.commits[repository.find(revision)]


class HubHandler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self.read_body()
        self.hub.requests.append(f"{self.command} {url.path}")
        # Branches may hold slashes, which then are escaped: paths are split before they are unquoted.
        try:
            with self.hub.lock:
                for methods, pattern, action in ROUTES:
                    found = re.fullmatch(pattern, url.path)
                    if self.command in methods and found:
                        return action(self, **{name: unquote(text or "") for name, text in found.groupdict().items()})
            raise Refusal(404, message="no such route")
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self.send(
                json.dumps({"error": refusal.message}).encode(),
                refusal.status,
                {name: text for name, text in headers.items() if text},
            )

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        plain = {"Content-Length": str(len(content)), "Content-Type": "application/json"}
        for name, text in (plain | (headers or {})).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_json(self, value: object) -> None:
        self.send(json.dumps(value).encode())

    @property
    def logged_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def check_writer(self, repo_id: str) -> None:
        if not self.logged_in:
            raise Refusal(401, message="Invalid username or password.")
        if not repo_id.startswith(f"{USER}/"):
            raise Refusal(403, message=f"You don't have the rights to write to {repo_id}.")

    def repository(self, kind: str, repo_id: str) -> Repository:
        found = self.hub.repositories.get(f"{kind}/{repo_id}")
        if found is None or (found.private and not self.logged_in):
            raise Refusal(404 if self.logged_in else 401, "RepoNotFound", "Repository not found")
        return found

    def snapshot(self, kind: str, repo_id: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repository = self.repository(kind, repo_id)
        commit = repository.find(revision or "main")
        if commit is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, repository.commits[commit]

    # What is asked

    def whoami(self) -> None:
        if not self.logged_in:
            raise Refusal(401, message="Invalid username or password.")
        self.send_json({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def validate_card(self) -> None:
        content = json.loads(self.body)["content"]
        whole = re.match(r"---\n(.*?)\n---(\n|$)", content, re.DOTALL)
        if content.startswith("---") and not whole:
            return self.send(b'{"errors": [{"message": "the metadata has no end"}], "warnings": []}', 400)
        return self.send_json({"errors": [], "warnings": []})

    def create(self) -> None:
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or USER}/{asked['name']}"
        self.check_writer(repo_id)
        kind = f"{asked.get('type') or 'model'}s"
        url = f"{self.hub.endpoint}/{'datasets/' * (kind == 'datasets')}{repo_id}"
        if f"{kind}/{repo_id}" in self.hub.repositories:
            return self.send(json.dumps({"error": "exists", "url": url}).encode(), 409)
        repository = Repository(private=asked.get("visibility") == "private")
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self.hub.repositories[f"{kind}/{repo_id}"] = repository
        return self.send_json({"url": url})

    def auth_check(self, kind: str, repo_id: str, write: str) -> None:
        self.repository(kind, repo_id)
        if write:
            self.check_writer(repo_id)
        self.send_json({})

    def info(self, kind: str, repo_id: str, revision: str = "") -> None:
        commit, files = self.snapshot(kind, repo_id, revision)
        found = {"id": repo_id, "sha": commit, "author": USER, "lastModified": WHEN, "createdAt": WHEN, "tags": []}
        found |= {"private": self.repository(kind, repo_id).private, "downloads": 0, "likes": 0}
        self.send_json(found | {"siblings": [{"rfilename": path} for path in sorted(files)]})

    def refs(self, kind: str, repo_id: str) -> None:
        branches = self.repository(kind, repo_id).branches.items()
        heads = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit} for name, commit in branches]
        self.send_json({"branches": heads, "converts": [], "tags": []})

    def new_branch(self, kind: str, repo_id: str, branch: str) -> None:
        self.check_writer(repo_id)
        repository = self.repository(kind, repo_id)
        if branch in repository.branches:
            raise Refusal(409, message="branch exists")
        repository.branches[branch] = repository.branches["main"]
        self.send_json({})

    def entry(self, path: str, content: bytes) -> dict:
        entry = {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return entry

    def entries(self, files: dict[str, bytes]) -> dict[str, dict]:
        """Files and the folders they stand in, by path."""
        found = {path: self.entry(path, content) for path, content in files.items()}
        for path in files:
            parts = path.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                folder = "/".join(parts[:depth])
                oid = hashlib.sha1(folder.encode()).hexdigest()
                found[folder] = {"type": "directory", "path": folder, "size": 0, "oid": oid}
        return dict(sorted(found.items()))

    def tree(self, kind: str, repo_id: str, revision: str, path: str) -> None:
        entries = self.entries(self.snapshot(kind, repo_id, revision)[1])
        if path and path not in entries:
            raise Refusal(404, "EntryNotFound", f"{path} does not exist")
        start = f"{path}/" if path else ""
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        below = {name: entry for name, entry in entries.items() if name.startswith(start)}
        self.send_json([entry for name, entry in below.items() if recursive or "/" not in name[len(start) :]])

    def paths_info(self, kind: str, repo_id: str, revision: str) -> None:
        entries = self.entries(self.snapshot(kind, repo_id, revision)[1])
        is_json = "json" in self.headers.get("Content-Type", "")
        asked = json.loads(self.body)["paths"] if is_json else parse_qs(self.body.decode())["paths"]
        self.send_json([entries[path] for path in asked if path in entries])

    def preupload(self, kind: str, repo_id: str, revision: str) -> None:
        self.check_writer(repo_id)
        files = self.snapshot(kind, repo_id, revision)[1]
        answers = []
        for asked in json.loads(self.body)["files"]:
            path, large = asked["path"], asked["path"].endswith(LARGE)
            answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if path in files:
                entry = self.entry(path, files[path])
                answer["oid"] = entry["lfs"]["oid"] if large else entry["oid"]
            answers.append(answer)
        self.send_json({"files": answers})

    def lfs_batch(self, repo_id: str) -> None:
        self.check_writer(repo_id)
        objects = json.loads(self.body)["objects"]
        for asked in objects:
            if asked["oid"] not in self.hub.blobs:
                asked["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs-objects/{asked['oid']}"}}
        self.send_json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, message="the content is not what its hash says")
        self.hub.blobs[oid] = self.body
        self.send_json({})

    def commit(self, kind: str, repo_id: str, revision: str) -> None:
        self.check_writer(repo_id)
        before, files = self.snapshot(kind, repo_id, revision)
        files, message = dict(files), ""
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, before):
                    raise Refusal(412, message="a commit has happened since")
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                if value["oid"] not in self.hub.blobs:
                    raise Refusal(400, message=f"{value['path']} was not uploaded")
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif entry["key"] in ("deletedFile", "deletedFolder"):
                gone = [path for path in files if f"{path}/".startswith(f"{value['path'].rstrip('/')}/")]
                if not gone:
                    raise Refusal(404, "EntryNotFound", f"{value['path']} does not exist")
                for path in gone:
                    del files[path]
            else:
                raise Refusal(400, message=f"no such operation: {entry['key']}")
        name = self.repository(kind, repo_id).commit(revision, files, message)
        url = f"{self.hub.endpoint}/{'datasets/' * (kind == 'datasets')}{repo_id}/commit/{name}"
        self.send_json({"success": True, "commitOid": name, "commitUrl": url})

    def resolve(self, repo_id: str, revision: str, path: str, datasets: str = "") -> None:
        commit, files = self.snapshot("datasets" if datasets else "models", repo_id, revision)
        if path not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        content, entry = files[path], self.entry(path, files[path])
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self.send(content, headers=headers | {"Content-Type": "application/octet-stream"})
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self.send(content[first : last + 1], 206, headers)


REPO = r"/api/(?P<kind>models|datasets)/(?P<repo_id>[^/]+/[^/]+)"
ROUTES = [
    (("GET",), r"/api/whoami-v2", HubHandler.whoami),
    (("POST",), r"/api/validate-yaml", HubHandler.validate_card),
    (("POST",), r"/api/repos/create", HubHandler.create),
    (("GET",), REPO, HubHandler.info),
    (("GET",), REPO + r"/auth-check(?P<write>/write)?", HubHandler.auth_check),
    (("GET",), REPO + r"/revision/(?P<revision>[^/]+)", HubHandler.info),
    (("GET",), REPO + r"/refs", HubHandler.refs),
    (("POST",), REPO + r"/branch/(?P<branch>[^/]+)", HubHandler.new_branch),
    (("GET",), REPO + r"/tree/(?P<revision>[^/]+)/?(?P<path>.*)", HubHandler.tree),
    (("POST",), REPO + r"/paths-info/(?P<revision>[^/]+)", HubHandler.paths_info),
    (("POST",), REPO + r"/preupload/(?P<revision>[^/]+)", HubHandler.preupload),
    (("POST",), REPO + r"/commit/(?P<revision>[^/]+)", HubHandler.commit),
    (("PUT",), r"/lfs-objects/(?P<oid>[0-9a-f]{64})", HubHandler.lfs_put),
    (("POST",), r"/(datasets/)?(?P<repo_id>[^/]+/[^/]+)\.git/info/lfs/objects/batch", HubHandler.lfs_batch),
    (
        ("GET", "HEAD"),
        r"/(?P<datasets>datasets/)?(?P<repo_id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
        HubHandler.resolve,
    ),
]
