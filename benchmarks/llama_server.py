#!/usr/bin/env python3
"""llama-server out of the PyPI package xllamacpp, which carries it as a library: the program beside which
benchmarks/serve.py measures ours, where no llama-server is installed.

    python -m venv /tmp/venv && /tmp/venv/bin/pip install xllamacpp
    benchmarks/serve.py ... --llama-server "/tmp/venv/bin/python benchmarks/llama_server.py"

It takes the flags of llama-server that the benchmark gives."""

import argparse
import signal

import xllamacpp


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-m", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("-c", type=int, required=True)
    parser.add_argument("-np", type=int, required=True)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = arguments.m
    params.hostnames = ["127.0.0.1"]
    params.port = arguments.port
    params.n_ctx = arguments.c
    params.n_parallel = arguments.np
    if arguments.threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
