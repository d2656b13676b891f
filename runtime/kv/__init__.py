"""The paged KV cache: who owns which page."""

from ingot.runtime.kv.page_pool import PagePool

__all__ = ["PagePool"]
