# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""A second implementation of a VLM's promises: a client of a model behind HTTP, which inherits from nothing."""

import base64
import json
import threading
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from leverplus_trl.answering import Answerer
from leverplus_trl.beams import BeamArguments, search_unit
from leverplus_trl.tasks.images import undecoded
from leverplus_trl.vlms import VLM, AnswerLogprob, Request


def to_json(example):
    return {**example, "image": {"bytes": base64.b64encode(example["image"]["bytes"]).decode(), "path": None}}


def from_json(example):
    return {**example, "image": {"bytes": base64.b64decode(example["image"]["bytes"]), "path": None}}


class HTTPVLM:
    """A VLM that another process runs, at `url`."""

    def __init__(self, url, task):
        self.url, self.task = url, task

    def answer_logprobs(self, requests):
        return [AnswerLogprob(*found) for found in self._post("answer_logprobs", requests)]

    def generate(self, requests, generation_config=None):
        return self._post("generate", requests)

    @contextmanager
    def unit(self):
        self._post("begin", [])
        yield
        self._post("end", [])

    def _post(self, call, requests):
        body = [[list(map(to_json, request.demonstrations)), to_json(request.query)] for request in requests]
        with urllib.request.urlopen(f"{self.url}/{call}", json.dumps(body).encode()) as reply:
            return json.load(reply)


@pytest.fixture
def url(concept_vlm):
    units = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests = [Request(tuple(map(from_json, shown)), from_json(query)) for shown, query in sent]
            call, found = self.path.removeprefix("/"), None
            if call == "begin":
                units.append(concept_vlm.unit())
                units[-1].__enter__()
            elif call == "end":
                units.pop().__exit__(None, None, None)
            else:
                found = getattr(concept_vlm, call)(requests)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_beams_and_answers_are_those_of_the_model_behind_it(url, concept_vlm, world, tmp_path):
    client = HTTPVLM(url, concept_vlm.task)
    assert HTTPVLM.__mro__ == (HTTPVLM, object) and VLM not in type(concept_vlm).__mro__
    pool, queries = undecoded(world["pool"]), undecoded(world["test"])
    queries = [queries[row] for row in range(3)]
    pool = {example["id"]: example for example in (pool[row] for row in range(8))}
    found = {}
    for name, vlm in (("http", client), ("here", concept_vlm)):
        beams = []
        for score in ("prob", "metric"):
            args = BeamArguments(output_dir=str(tmp_path), num_shots=2, beam_size=3, score=score)
            with vlm.unit():
                beams.append(search_unit(queries, [list(pool)] * len(queries), pool, vlm, args))
        shown = tuple(pool.values())[:2]
        requests = [Request(shown, query) for query in queries] + [Request((), query) for query in queries]
        answerer = Answerer(vlm)
        with vlm.unit():
            answers = answerer.answer(requests)
            sure = answerer.confidences(requests, [answer.prediction for answer in answers])
        found[name] = beams, answers, sure
    assert found["http"] == found["here"]
    beams, answers, sure = found["here"]
    assert len({entry["answer_logprob"] for row in beams[0] for entry in row["ledger"]}) > 50
    assert len({answer.generation for answer in answers}) > 1 and all(0.0 < value < 1.0 for value in sure)
