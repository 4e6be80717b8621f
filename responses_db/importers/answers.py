"""The answer read out of an imported response, so that agreement between models can be seen without a grade.

Two responses to one query agree if and only if their answers are equal strings, so an answer is put in a normal form,
and where no comparable answer can be read it is null. The reference is never looked at.

* The question offers options (lines that begin with A and B): the letter of an offered option that a short reply
  consists of ("A", "B\\n", "C)", "D."), or that a longer reply declares ("the answer is (C)"). Anything else
  ("I do", "E" of four options) is a format failure: null.
* A reply that ends by declaring a short result ("#### 42", "\\boxed{42}", "the answer is 42"): that result.
* Another short reply: its text, folded.
* A long text, such as code: null. Equal programs differ in every character, so their text says nothing of agreement.
"""

import polars as pl

SHORT_CHARACTERS, SHORT_WORDS = 40, 5

OPTION = r"(?:^|\s)\(?([A-J])[).:]"
LONE_LETTER = r"^[\s(*\"']*([A-Ja-j])[\s).:,*\"'(]*$"
DECLARED_LETTER = r"(?i:answer)(?i:\s+is)?[\s:*]*\(?([A-J])\b"
DECLARED_RESULT = r"(?:####\s*|\\boxed\{|(?i:answer is)[\s:]*)([^\s}]{1,40}(?: [^\s}]{1,40})?)[}.$*\s]*$"


def with_answers(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the column `answer` to rows with `question` and `response`; null where none can be read."""
    letters = rows.select(pl.col("question").unique()).with_columns(
        options=pl.col("question").str.extract_all(OPTION).list.eval(pl.element().str.extract(r"([A-J])")).list.unique()
    )
    offers = pl.col("options").list.contains("A") & pl.col("options").list.contains("B")
    letters = letters.with_columns(options=pl.when(offers).then("options"))
    chosen = pl.when(pl.col("options").list.contains(_letter())).then(_letter())
    answer = pl.when(pl.col("options").is_not_null()).then(chosen).otherwise(_free_answer())
    return (
        rows.join(letters, on="question", how="left", maintain_order="left").with_columns(answer=answer).drop("options")
    )


def _letter() -> pl.Expr:
    text = pl.col("response")
    declared = text.str.extract_all(DECLARED_LETTER).list.last().str.extract(DECLARED_LETTER)
    return pl.coalesce(text.str.extract(LONE_LETTER).str.to_uppercase(), declared)


def _free_answer() -> pl.Expr:
    text = pl.col("response")
    short = (text.str.len_chars() <= SHORT_CHARACTERS) & (text.str.split(" ").list.len() <= SHORT_WORDS)
    declared = text.str.extract(DECLARED_RESULT)
    folded = _folded(pl.coalesce(declared, pl.when(short).then(text)))
    return pl.when(folded != "").then(folded)


def _folded(text: pl.Expr) -> pl.Expr:
    text = text.str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars(" .,;:!?\"'`*$")
    return text.str.replace_all(r"(\d),(\d{3})", "${1}${2}").str.replace(r"^(-?\d+)\.0+$", "${1}")
