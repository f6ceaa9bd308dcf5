"""What programs and servers say is shown without secrets."""

from app.programs.masking import masked


def test_short_secrets_are_masked_as_whole_words():
    assert masked('table "other" for r, r!', ("r",)) == 'table "other" for *****, *****!'
    assert masked("with-secret1-in", ("secret1",)) == "with-*****-in"
