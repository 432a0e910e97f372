# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import pytest

from leverplus_trl.metrics.okvqa_accuracy import okvqa_accuracy, stem, stem_words


# From the examples of Porter's paper, step by step.
PORTER = """
caresses caress, ponies poni, ties ti, caress caress, cats cat, feed feed, agreed agre, plastered plaster, bled
bled, motoring motor, sing sing, conflated conflat, troubled troubl, sized size, hopping hop, tanned tan, falling
fall, hissing hiss, fizzed fizz, failing fail, filing file, happy happi, sky sky, relational relat, conditional
condit, rational ration, valenci valenc, digitizer digit, conformabli conform, radicalli radic, differentli differ,
vileli vile, analogousli analog, vietnamization vietnam, predication predic, operator oper, feudalism feudal,
decisiveness decis, hopefulness hope, callousness callous, formaliti formal, sensitiviti sensit, sensibiliti
sensibl, triplicate triplic, formative form, formalize formal, electriciti electr, electrical electr, hopeful hope,
goodness good, revival reviv, allowance allow, inference infer, airliner airlin, gyroscopic gyroscop, adjustable
adjust, defensible defens, irritant irrit, replacement replac, adjustment adjust, dependent depend, adoption adopt,
homologou homolog, communism commun, activate activ, angulariti angular, homologous homolog, effective effect,
bowdlerize bowdler, probate probat, rate rate, cease ceas, controll control, roll roll, is is, generalizations
gener, oscillators oscil, trekking trek, revved rev, bookkeepings bookkeep, fizzing fizz, trekks trekk
"""

# Raw words of OK-VQA and what its annotations (1.1) hold for them.
OKVQA = """
jeans jean, hell's hell, morning morn, clothes cloth, riding ride, dangerous danger, kiting kite, firefighters
firefight, gloves glove, tennis tennis, dining dine, directions direct, christmas christmas, pudding pud,
sickness sick, skateboarders skateboard, electronics electron, mountainous mountain, buildings build, elevators elev,
men's men, wilderness wilder, illness ill, playfulness play, circuses circus, browsing brows, professionals profession
"""


@pytest.mark.parametrize("pair", PORTER.split(","))
def test_porter(pair):
    word, expected = pair.split()
    assert stem(word) == expected


@pytest.mark.parametrize("pair", OKVQA.split(","))
def test_raw_words_meet_the_annotations_stems(pair):
    raw, stemmed = pair.split()
    assert stem_words(raw) == stem_words(stemmed)


def test_predictions_are_stemmed_as_the_answers_are():
    answers = ["pony tail"] * 4 + ["braid"] * 6
    assert okvqa_accuracy("Ponies tails.", answers) == 1
    assert okvqa_accuracy("the boy's braids", ["braid"] * 2 + ["pony tail"] * 8) == 0
    assert okvqa_accuracy("skateboarding", ["skateboard"] * 2 + ["ski"] * 8) == pytest.approx(0.6)
    assert okvqa_accuracy("surfing", ["surf"] * 10) == 1  # stemmed also where all annotators agree ...
    assert okvqa_accuracy("the surf", ["surf"] * 10) == 0  # ... but not normalised
    assert okvqa_accuracy("", ["surf"] * 10) == 0


def test_bad_input():
    with pytest.raises(ValueError, match="No answer to judge"):
        okvqa_accuracy("surf", [])
    with pytest.warns(UserWarning, match="can't exceed 1/3"):
        assert okvqa_accuracy("surf", ["surf", "surf"]) == pytest.approx(1 / 3)
