"""The table of families is sound."""

from collections import Counter

from ingot.models.families import FAMILIES
from tests.tiny_models import find_family

# What the project promises; each may have variants beside it.
PROMISED = """llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 gpt2 gpt_neox gptj opt
bloom falcon mpt stablelm starcoder2 olmo olmo2 olmo3 cohere cohere2 granite nemotron exaone4 glm
glm4 ernie4_5 smollm3 hunyuan_v1_dense seed_oss apertus arcee helium""".split()


def test_names_are_unique_and_complete() -> None:
    assert [n for n, count in Counter(f.name for f in FAMILIES).items() if count > 1] == []
    assert set(PROMISED) <= {family.name for family in FAMILIES}
    assert all(family.features for family in FAMILIES)


def test_configurations_are_tiny_and_fresh() -> None:
    for family in FAMILIES:
        config = family.config()
        assert config.model_type == family.model_type
        assert config.vocab_size == 128
        assert config.num_hidden_layers == 2
    assert find_family("llama").config() is not find_family("llama").config()
