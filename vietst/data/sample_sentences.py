"""The texts of the spoken sample corpus: templates, the phrases that fill them, and how sentences are drawn.

A sentence is Vietnamese with English words inside (the transcript) and the same in Vietnamese alone (the
translation). `[ ]` marks what is spoken with an English voice. The vocabulary is closed and small on purpose,
so that a model of a million weights can learn it in minutes. In a good third of the templates the translation
has another order than the transcript (time and reason first, passive), and English compounds turn round
("data pipeline" → "đường ống dữ liệu"), so that handing in the transcript as translation scores poorly.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise, product
from math import prod
from typing import Final

Phrase = tuple[str, str]
"""(what is said, with English in brackets; its translation)."""

CONNECTIVES: Final = (" còn ", " với lại ", " rồi ")
"""What joins the clauses of longer sentences."""

NUM_CLAUSES: Final = {"short": 1, "medium": 2, "long": 4}
"""How many clauses make a sentence of each length: about 2.5, 5 and 10 seconds of speech."""


@dataclass(frozen=True)
class Sentence:
    """One thing to say. `marked` is the transcript with its English words in brackets."""

    marked: str
    translation: str

    @property
    def transcript(self) -> str:
        return re.sub(r"[\[\]]", "", self.marked)

    @property
    def segments(self) -> list[tuple[str, str]]:
        """The transcript in pieces of one language: `[("vi", "mình sẽ"), ("en", "fix"), …]`."""
        pieces = re.split(r"(\[[^\]]*\])", self.marked)
        return [
            ("en" if piece.startswith("[") else "vi", piece.strip("[] ")) for piece in pieces if piece.strip()
        ]


def same(*texts: str) -> list[Phrase]:
    """Phrases without English: transcript and translation agree."""
    return [(text, text) for text in texts]


def english(**translations: str) -> list[Phrase]:
    """English words and compounds (an underscore stands for the space) with their Vietnamese translations."""
    return [(f"[{word.replace('_', ' ')}]", translation) for word, translation in translations.items()]


def joined(first: Sequence[Phrase], second: Sequence[Phrase]) -> list[Phrase]:
    """Every phrase of `first` followed by every phrase of `second`."""
    return [(f"{a[0]} {b[0]}", f"{a[1]} {b[1]}") for a, b in product(first, second)]


SYSTEMS: Final = english(
    app="ứng dụng",
    server="máy chủ",
    website="trang mạng",
    database="cơ sở dữ liệu",
    code="mã nguồn",
    feature="tính năng",
    dashboard="bảng điều khiển",
    data_pipeline="đường ống dữ liệu",
    login_feature="tính năng đăng nhập",
    mobile_app="ứng dụng di động",
    backup_server="máy chủ dự phòng",
    search_feature="tính năng tìm kiếm",
    user_database="cơ sở dữ liệu người dùng",
)
DOCUMENTS: Final = english(
    file="tập tin",
    slide="trang chiếu",
    report="báo cáo",
    plan="kế hoạch",
    document="tài liệu",
    contract="hợp đồng",
    budget_plan="kế hoạch ngân sách",
    data_report="báo cáo dữ liệu",
    project_plan="kế hoạch dự án",
    marketing_report="báo cáo tiếp thị",
    user_feedback="phản hồi người dùng",
)
PAPERS: Final = same("bài viết", "danh sách", "hóa đơn", "hình ảnh")
SYSTEM_VERBS: Final = [
    *english(fix="sửa", test="kiểm thử", deploy="triển khai", debug="gỡ lỗi", update="cập nhật"),
    *same("kiểm tra lại", "cài đặt"),
]
DOCUMENT_VERBS: Final = english(
    review="xem lại",
    share="chia sẻ",
    edit="chỉnh sửa",
    submit="nộp",
    check="kiểm tra",
    upload="tải lên",
    download="tải xuống",
)
WRITING_VERBS: Final = same("viết", "chuẩn bị", "đọc")

SLOTS: Final[Mapping[str, Sequence[Phrase]]] = {
    "subject": [*same("mình", "em", "anh Nam", "chị Lan", "sếp"), ("cả [team]", "cả nhóm")],
    "person": english(
        customer="khách hàng",
        manager="quản lý",
        designer="nhà thiết kế",
        developer="lập trình viên",
        leader="trưởng nhóm",
        mentor="người hướng dẫn",
    ),
    "time": same("hôm nay", "ngày mai", "tối nay", "chiều nay", "sáng mai", "tuần sau", "thứ hai", "thứ sáu"),
    "past": same("hôm qua", "đêm qua", "sáng nay", "tuần trước"),
    "event": english(meeting="cuộc họp", workshop="hội thảo", training="buổi đào tạo"),
    "adjective": english(
        complex="phức tạp",
        simple="đơn giản",
        important="quan trọng",
        professional="chuyên nghiệp",
        useful="hữu ích",
    ),
    "state": english(free="rảnh", ready="sẵn sàng", online="trực tuyến"),
    "reason": [
        *same("mạng chậm", "hết pin", "hơi mệt"),
        ("[laptop] bị hỏng", "máy tính bị hỏng"),
        ("[budget] còn ít", "ngân sách còn ít"),
        ("đang [busy]", "đang bận"),
    ],
    "study": english(
        assignment="bài tập", research="nghiên cứu", thesis="luận văn", presentation="bài thuyết trình"
    ),
    "course": english(
        machine_learning="học máy", marketing="tiếp thị", design="thiết kế", mobile_design="thiết kế di động"
    ),
    "span": same("hai tháng", "ba tháng", "bốn tuần", "năm tuần"),
    "channel": english(email="thư điện tử", chat="tin nhắn"),
    "system": SYSTEMS,
    "document": DOCUMENTS,
    "thing": [*SYSTEMS, *DOCUMENTS],
    "action": [
        *joined(SYSTEM_VERBS, SYSTEMS),
        *joined(DOCUMENT_VERBS, [*DOCUMENTS, *PAPERS]),
        *joined(WRITING_VERBS, DOCUMENTS),
    ],
}

TEMPLATES: Final[Sequence[Phrase]] = (
    ("{subject} sẽ cố gắng {action} {time}", "{time} {subject} sẽ cố gắng {action}"),
    ("{subject} đang {action} cho {person}", "{subject} đang {action} cho {person}"),
    ("{subject} phải {action} trước [deadline]", "trước hạn chót {subject} phải {action}"),
    ("{time} {subject} có {event} với {person}", "{subject} có {event} với {person} vào {time}"),
    ("cái {thing} này rất là {adjective}", "{thing} này rất là {adjective}"),
    ("mọi người đừng quên {action} nhé", "mọi người đừng quên {action} nhé"),
    ("{subject} chưa {action} được vì {reason}", "vì {reason} nên {subject} chưa {action} được"),
    ("{subject} không biết cách {action}", "{subject} không biết cách {action}"),
    ("ai có thể {action} giúp {subject} không", "ai có thể giúp {subject} {action} không"),
    ("{person} muốn {subject} {action} {time}", "{time} {person} muốn {subject} {action}"),
    ("{system} bị [crash] từ {past} đến giờ", "từ {past} đến giờ {system} bị sập"),
    ("sau {event} thì {subject} sẽ {action}", "sau {event} thì {subject} sẽ {action}"),
    ("{subject} đã gửi {document} qua {channel} rồi", "{subject} đã gửi {document} qua {channel} rồi"),
    ("{thing} của {person} trông khá {adjective}", "{thing} của {person} trông khá {adjective}"),
    ("làm ơn {action} giúp {subject} với", "làm ơn giúp {subject} {action} với"),
    ("nếu [ok] thì cứ {action} luôn nhé", "nếu được thì cứ {action} luôn nhé"),
    ("khi nào {state} thì {subject} sẽ {action}", "khi nào {state} thì {subject} sẽ {action}"),
    ("{system} với {document} này đều {adjective}", "cả {system} với {document} này đều {adjective}"),
    ("{subject} học {course} được {span} rồi", "{subject} học {course} được {span} rồi"),
    ("tại sao {person} vẫn chưa {action}", "tại sao {person} vẫn chưa {action}"),
    ("{subject} cần thêm {document} để làm {study}", "để làm {study} {subject} cần thêm {document}"),
    ("{time} là [deadline] nộp {study} cho thầy", "hạn chót nộp {study} cho thầy là {time}"),
    ("{person} khen {document} của {subject}", "{document} của {subject} được {person} khen"),
    ("{subject} thích {event} này vì rất {adjective}", "vì rất {adjective} nên {subject} thích {event} này"),
    ("hình như {subject} quên {action} mất rồi", "hình như {subject} quên {action} mất rồi"),
)


class Template:
    """One template and the numbered sentences that can be made from it."""

    def __init__(self, patterns: Phrase) -> None:
        self.patterns = patterns
        self.slots = re.findall(r"{(\w+)}", patterns[0])
        self.num_fillings = prod(len(SLOTS[slot]) for slot in self.slots)

    def sentence(self, filling: int) -> Sentence:
        """The sentence number `filling`, in [0, num_fillings)."""
        said: dict[str, str] = {}
        meant: dict[str, str] = {}
        for slot in self.slots:
            filling, choice = divmod(filling, len(SLOTS[slot]))
            said[slot], meant[slot] = SLOTS[slot][choice]
        return Sentence(self.patterns[0].format(**said), self.patterns[1].format(**meant))


def has_repetition(text: str) -> bool:
    """Whether a word stands twice in a row: such texts teach a decoder to loop."""
    words = text.lower().split()
    return any(first == second for first, second in pairwise(words))


def repeats_english(sentence: Sentence) -> bool:
    """Whether an English word comes twice in the sentence, as in "update … update"."""
    words = [word for language, text in sentence.segments if language == "en" for word in text.split()]
    return len(set(words)) < len(words)


def distinct_clauses(seed: int) -> Iterator[Sentence]:
    """All clauses in an order given by `seed`, one template after the other in turn, each transcript once."""
    generator = random.Random(f"sentences {seed}")
    seen: set[str] = set()
    queues = []
    for patterns in TEMPLATES:
        template = Template(patterns)
        order = generator.sample(range(template.num_fillings), template.num_fillings)
        queues.append(map(template.sentence, order))
    while queues:
        for queue in list(queues):
            for sentence in queue:
                spoilt = has_repetition(sentence.transcript) or has_repetition(sentence.translation)
                if spoilt or repeats_english(sentence) or sentence.transcript.lower() in seen:
                    continue
                seen.add(sentence.transcript.lower())
                yield sentence
                break
            else:
                queues.remove(queue)


def distinct_sentences(seed: int, length: str = "short") -> Iterator[Sentence]:
    """Sentences of the given length (a key of `NUM_CLAUSES`), no two with the same words.

    No clause is used twice either, so texts in different videos never share a whole clause.
    """
    clauses = distinct_clauses(seed)
    connectives = cycle(CONNECTIVES)
    while len(group := list(islice(clauses, NUM_CLAUSES[length]))) == NUM_CLAUSES[length]:
        connective = next(connectives)
        sentence = Sentence(
            connective.join(clause.marked for clause in group),
            connective.join(clause.translation for clause in group),
        )
        if not has_repetition(sentence.transcript) and not has_repetition(sentence.translation):
            yield sentence
