"""The bodies of requests and answers, as they are written on the wire."""
