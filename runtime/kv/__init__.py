"""The paged KV cache: who owns which page, and which pages can be found again."""

from ingot.runtime.kv.page_hash import extend_page_hashes
from ingot.runtime.kv.page_pool import PagePool

__all__ = ["PagePool", "extend_page_hashes"]
