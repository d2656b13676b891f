"""A web server for one artifact: OpenAI's API, metrics, traces and a page to talk to it.

Needs the packages of the `serve` extra, which nothing else of the runtime imports.
"""
