"""Ids and texts by the published implementations, for compare-tokenizers.mjs, which calls this file: one JSON object a line and folder."""
import json
import random
import sys
import unicodedata
from pathlib import Path

FOLDERS, COUNT, SEED = sys.argv[3:], int(sys.argv[1]), int(sys.argv[2])
CATEGORIES = {}
for code in range(0x110000):
    CATEGORIES.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
del CATEGORIES["Cn"], CATEGORIES["Cs"]  # unassigned ones differ by the version of Unicode
MARKS = [c for c in map(chr, range(0x300, 0x370))]
EMOJI = ["👩‍👩‍👧", "👍🏽", "🏳️‍🌈", "👨🏿‍🚀", "🇫🇷🇩🇪", "1️⃣", "🤖", "❤️‍🔥"]
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u2003", "\u3000", "\u200b", "\ufeff", "\u0085", "\u2028", " \n ", "\t \t"]
WORDS = ["the", "Hello", "don't", "WE'LL", "HTTPServer", "snake_case", "naïve", "Straße", "ΟΔΟΣ", "Привет", "мир", "日本語", "漢字かな", "한국어", "العربية", "עִבְרִית", "हिन्दी", "ไทย", "ﬁ", "½", "²", "①", "x=1;", "<tag>", "http://a.b/c?d=e", "\u2581", "İ", "ǅ"]
LONG = ["a", "ab", "supercalifragilistic", "é", "漢", "9", "_", "😀", "A"]


def text(r, special):
    def part():
        kind = r.randrange(14)
        if kind == 0: return "".join(r.choice(CATEGORIES[r.choice(list(CATEGORIES))]) for _ in range(r.randint(1, 6)))
        if kind == 1: return r.choice("aeiouxAEno") + "".join(r.choice(MARKS) for _ in range(r.randint(1, 4)))
        if kind == 2: return r.choice(EMOJI)
        if kind == 3: return "".join(r.choice("0123456789") for _ in range(r.randint(1, 12)))
        if kind == 4: return "".join(r.choice(CATEGORIES[r.choice(["Nd", "Nl", "No"])]) for _ in range(r.randint(1, 5)))
        if kind == 5: return "".join(r.choice(SPACES) for _ in range(r.randint(1, 5)))
        if kind == 6: return r.choice(special) if special else " "
        if kind == 7: return "".join(chr(r.randint(0x4E00, 0x9FFF)) for _ in range(r.randint(1, 8)))
        if kind == 8: return "".join(chr(r.choice([r.randint(0x5D0, 0x5EA), r.randint(0x620, 0x64A), 0x200F, 0x200E])) for _ in range(r.randint(1, 8)))
        if kind == 9: return "".join(chr(r.randint(0, 0x1F)) for _ in range(r.randint(1, 3)))
        if kind == 10: return "\ufffd" * r.randint(1, 2)
        if kind == 11: return r.choice(LONG) * r.randint(2, 60)
        if kind == 12: return "".join(r.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(r.randint(1, 5)))
        return r.choice(WORDS)
    return "".join(part() + (" " if r.random() < 0.3 else "") for _ in range(r.randint(1, 7)))


def by_tokenizers(file):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(file))
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    encode = lambda t: tokenizer.encode(t, add_special_tokens=False).ids
    around = tokenizer.encode("x", add_special_tokens=True).ids
    return special, encode, lambda ids: tokenizer.decode(ids, skip_special_tokens=False), around


def by_sentencepiece(file):
    import sentencepiece
    sp = sentencepiece.SentencePieceProcessor(model_file=str(file))
    # Control tokens inside a text are plain letters to SentencePiece; a template needs them as tokens. So only user-defined ones are put into texts.
    special = [sp.id_to_piece(i) for i in range(sp.vocab_size()) if not (sp.is_control(i) or sp.is_unknown(i) or sp.is_byte(i) or sp.is_unused(i)) and sp.get_score(i) == 0.0]
    # It writes unknown pieces as " ⁇ ", other implementations as their name.
    decode = lambda ids: None if sp.unk_id() in ids else sp.decode(ids)
    return special, sp.encode, decode, [sp.bos_id()] + sp.encode("x")


for folder in FOLDERS:
    path = Path(folder)
    is_json = (path / "tokenizer.json").exists()
    special, encode, decode, around = by_tokenizers(path / "tokenizer.json") if is_json else by_sentencepiece(path / "tokenizer.model")
    r = random.Random(SEED)
    texts = [text(r, special) for _ in range(COUNT)]
    ids = [list(encode(t)) for t in texts]
    print(json.dumps({"folder": folder, "by": "tokenizers" if is_json else "sentencepiece", "around": around, "cases": [[t, i, decode(i)] for t, i in zip(texts, ids)]}), flush=True)
