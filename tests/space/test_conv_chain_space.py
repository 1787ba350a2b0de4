import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.space import Architecture
from nas_compress.space.conv_chain import (
    CONVOLUTIONS,
    KERNELS,
    RESIDUAL,
    ChainBlock,
    ConvChainSpace,
    check_chain,
    format_chain,
    parse_chain,
)
from nas_compress.supernets.conv_chain_config import DENAS_SEED

SPACE = ConvChainSpace("chains", DENAS_SEED)
CHANNELS = st.integers(1, 256).map(lambda n: 8 * n)


@st.composite
def chains(draw):
    blocks, channels = [], draw(st.integers(1, 4))
    for name in draw(st.lists(st.sampled_from(sorted(KERNELS)), min_size=1, max_size=8)):
        middle = 0 if name in CONVOLUTIONS else draw(CHANNELS)
        block = ChainBlock(
            name, channels, draw(CHANNELS), draw(st.sampled_from((1, 2))), middle, draw(st.integers(1, 9))
        )
        blocks.append(block)
        channels = block.out_channels
    return tuple(blocks)


@given(chains())
def test_a_chain_is_read_as_it_was_written(chain):
    text = format_chain(chain)
    assert parse_chain(text) == chain
    assert parse_chain("\n " + text.replace(",", " , ").replace(")", ") ")) == chain
    assert format_chain(parse_chain(text)) == text


def test_the_published_seed():
    chain = parse_chain(DENAS_SEED)
    assert [b.type for b in chain] == ["SuperConvK3BNRELU", *["SuperResK3K3"] * 4, "SuperConvK1BNRELU"]
    assert chain[2] == ChainBlock("SuperResK3K3", 16, 32, 2, 16, 1)
    assert chain[5] == ChainBlock("SuperConvK1BNRELU", 64, 128, 1, 0, 1)
    assert SPACE.to_string(SPACE.seed_architecture()) == DENAS_SEED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("SuperConvK3BNRELU", "block 0: cannot read 'SuperConvK3BNRELU'"),
        ("SuperConvK3BNRELU(3,8,1,1)oops", "block 1: cannot read 'oops'"),
        ("SuperResK4K4(8,8,1,8,1)", "block 0 SuperResK4K4.*unknown type.*did you mean.*SuperResK3K3"),
        ("SuperResK3K3(8,8,1,8)", r"block 0.*wants 5 whole numbers \(in, out, stride, bottleneck, sub-layers\)"),
        ("SuperConvK1BNRELU(8,8,1,x)", "block 0.*wants 4 whole numbers"),
        ("SuperConvK1BNRELU(8,8,1,-1)", "block 0.*wants 4 whole numbers"),
        ("SuperConvK1BNRELU(3,12,1,1)", "block 0.*out_channels = 12; allowed: multiples of 8 up to 2048"),
        ("SuperConvK1BNRELU(3,2056,1,1)", "out_channels = 2056; allowed"),
        ("SuperConvK1BNRELU(3,0,1,1)", "out_channels = 0; allowed"),
        ("SuperConvK1BNRELU(0,8,1,1)", "in_channels = 0; allowed: 1 and more"),
        ("SuperConvK1BNRELU(3,8,3,1)", "stride = 3; allowed: 1, 2"),
        ("SuperConvK1BNRELU(3,8,1,0)", "sub-layers = 0; allowed: 1 and more"),
        ("SuperResK3K3(8,8,1,20,1)", "bottleneck = 20; allowed: multiples of 8"),
        (
            "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(16,16,1,8,1)",
            r"block 1 SuperResK3K3\(16,16,1,8,1\): in_channels = 16; allowed: 8, which block 0 gives",
        ),
    ],
)
def test_wrong_chains_name_the_block_and_what_is_allowed(text, message):
    with pytest.raises(ArchitectureError, match=message):
        parse_chain(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SuperConvK1BNRELU(64,128,1,1)", "", "has 5 blocks, space 'chains' wants 6"),
        ("SuperConvK3BNRELU(3", "SuperConvK3BNRELU(1", "in_channels differ from 3"),
        ("(16,32,2,", "(16,32,1,", r"block 2.*stride = 1; allowed in space 'chains': 2"),
        ("SuperConvK1BN", "SuperConvK3BN", "block 5.*type = SuperConvK3BNRELU; allowed.*SuperConvK1BNRELU"),
        ("SuperResK3K3(8,16,1,8,1)", "SuperConvK3BNRELU(8,16,1,1)", "block 1.*type.*allowed.*SuperResK1K3K1, "),
        ("(3,8,1,1)", "(3,8,1,2)", "block 0.*layers = 2; allowed"),
        ("(8,16,1,8,1)", "(8,16,1,8,9)", r"layers\[0\] = 9 is not legal; allowed: 1, 2,"),
    ],
)
def test_strings_that_are_not_of_the_space(old, new, message):
    assert old in DENAS_SEED
    with pytest.raises(ArchitectureError, match=message):
        SPACE.from_string(DENAS_SEED.replace(old, new))


def test_every_architecture_is_a_chain_and_back():
    architectures = SPACE.sample(np.random.default_rng(0), 50)
    for architecture in [*architectures, SPACE.smallest(), SPACE.largest()]:
        chain = SPACE.chain(architecture)
        check_chain(chain)
        assert [b.stride for b in chain] == [b.stride for b in SPACE.seed]
        assert SPACE.from_string(SPACE.to_string(architecture)) == architecture
    assert SPACE.decode(SPACE.encode(architectures)) == architectures


def test_the_space_has_the_published_choices():
    assert SPACE.size() == 6**4 * 256**6 * 256**4 * 8**4
    assert ConvChainSpace("a", DENAS_SEED, max_layers=5).size() == 6**4 * 256**10 * 5**4
    near = ConvChainSpace("b", DENAS_SEED, widening=2)
    assert [max(c) for d in near.dimensions if d.name == "out" for c in d.choices] == [16, 32, 64, 128, 128, 256]
    assert near.size() == 6**4 * (2 * 4 * 8 * 16 * 16 * 32) * (2 * 4 * 8 * 8) * 8**4


@given(seed=st.integers(0, 2**32 - 1), widening=st.sampled_from((1, 1.5, 4, None)), layers=st.integers(1, 12))
def test_mutants_are_valid_and_differ_in_one_block(seed, widening, layers):
    space = ConvChainSpace("chains", DENAS_SEED, max_layers=layers, widening=widening)
    rng = np.random.default_rng(seed)
    before = space.seed_architecture()
    for _ in range(20):
        after = space.mutate(before, rng)
        space.validate(after)
        pairs = list(zip(space.chain(before), space.chain(after), strict=True))
        own = [(a.type, a.out_channels, a.bottleneck, a.layers) != (b.type, b.out_channels, b.bottleneck, b.layers)
               for a, b in pairs]  # fmt: skip
        assert sum(own) == 1
        old, new = pairs[own.index(True)]
        assert abs(old.layers - new.layers) <= 2
        for name in ("out_channels", "bottleneck"):
            ratio = (getattr(new, name) + 4) / max(getattr(old, name) - 4, 1)
            assert getattr(new, name) <= 2.5 * getattr(old, name) + 4 and ratio >= 1 / 2.5
        before = after


def test_mutation_reaches_all_types_and_is_repeatable():
    def walk(seed):
        rng, found = np.random.default_rng(seed), [SPACE.seed_architecture()]
        for _ in range(300):
            found.append(SPACE.mutate(found[-1], rng))
        return found

    found = walk(1)
    assert found == walk(1) != walk(2)
    assert {t for a in found for t in a["type"]} == set(RESIDUAL)
    assert max(max(a["layers"]) for a in found) > 4
    with pytest.raises(ArchitectureError, match="lacks"):
        SPACE.mutate(Architecture({"out": (8,) * 6}), np.random.default_rng(0))


def test_wrong_spaces():
    with pytest.raises(ConfigError, match="no residual block"):
        ConvChainSpace("x", "SuperConvK3BNRELU(3,8,1,1)")
    with pytest.raises(ConfigError, match="max_layers = 1; wants at least 2"):
        ConvChainSpace("x", "SuperResK3K3(3,8,1,8,2)", max_layers=1)
    with pytest.raises(ConfigError, match="widening = 0.5"):
        ConvChainSpace("x", DENAS_SEED, widening=0.5)
