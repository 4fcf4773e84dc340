"""Prompts of our own for the codebook: what a selector meets and the public question sets lack.

Owns: the templates and what fills them. Must not know: what is fitted on them.
Chat, writing, rewriting, classifying, extraction, code, and prompts in other languages and scripts.
"""

from __future__ import annotations

from itertools import product

from sage.bench.questions import QUESTIONS

__all__ = ["own_prompts"]

TOPICS = (
    "a holiday by the sea", "my new neighbour", "how vaccines work", "the price of bread",
    "a broken washing machine", "learning the piano", "a job interview", "climate and forests",
    "the history of Rome", "a birthday party", "saving money", "our football team", "black holes",
    "a lost parcel", "healthy breakfasts", "moving to a new city",
)  # fmt: skip
TASKS = (
    "Hi! I would like to talk about {}.",
    "Write a short and friendly email about {}.",
    "Write a poem of eight lines about {}.",
    "Give me five ideas for a talk about {}.",
    "Explain {} to a child of ten.",
    "What are the advantages and disadvantages of {}?",
    "Rewrite this in a formal tone: so, about {}, I guess we should just sort it out soon, ok?",
    "Summarise in one sentence: last week we spoke at length about {}, and nobody agreed on what to do next.",
    "Translate into French: I have thought about {} the whole day.",
    "Is this review positive or negative? 'I expected more of the book on {}, but the ending was lovely.'",
    "Classify the message as complaint, question or praise: 'Thank you for your help with {}!'",
    "Extract the names and dates as JSON: On 3 May 2021 Anna and Tom wrote to Dr. Lee about {}.",
    "You are a travel agent. Stay in that role and answer a customer who asks about {}.",
    "I feel a bit lost with {}. What would you do in my place?",
)
CODE = (
    "Write a Python function that {}.",
    "Write a JavaScript function that {} and explain it.",
    "Why does my Rust program that {} not compile? error[E0382]: borrow of moved value: `list`",
    "Write unit tests for a function that {}.",
    "```python\ndef solve(data):\n    return sorted(data)[0]\n```\nThis code should be one that {}. Why?",
    "Write an SQL query that {}: SELECT name FROM people WHERE",
)
JOBS = (
    "reverses a linked list", "counts the words of a file", "checks whether a number is prime",
    "merges two sorted lists", "parses a date", "finds duplicates in a table",
    "computes the average of each group", "removes vowels from a text",
)  # fmt: skip
LANGUAGES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            "请解释一下{}。",
            "写一封关于{}的邮件。",
            "下列关于{}的说法，正确的是\nA. 甲\nB. 乙\nC. 丙\nD. 丁\n答案：",  # noqa: RUF001
            "{}的主要原因是什么？",  # noqa: RUF001
        ),
        (
            "光合作用",
            "中国古代史",
            "供求关系",
            "合同法",
            "细胞结构",
            "电路",
            "心脏病",
            "会计",
            "诗歌",
            "机器学习",
        ),
    ),
    (
        ("{}について説明してください。", "{}のメールを書いて。"),
        ("光合成", "日本の歴史", "経済", "電車", "料理", "音楽"),
    ),
    (
        ("{}에 대해 설명해 주세요.", "{}에 관한 짧은 글을 써 줘."),
        ("광합성", "한국 역사", "경제", "요리", "음악"),
    ),
    (
        ("Объясни, что такое {}.", "Напиши письмо на тему «{}»."),
        ("фотосинтез", "инфляция", "погода", "право", "музыка"),
    ),
    (("اشرح لي {}.", "اكتب رسالة قصيرة عن {}."), ("التاريخ", "الاقتصاد", "الطقس", "الرياضيات", "الموسيقى")),
    (("{} के बारे में बताइए।", "{} पर एक छोटा पत्र लिखिए।"), ("इतिहास", "मौसम", "संगीत", "गणित", "स्वास्थ्य")),
    (
        ("Erkläre mir {}.", "Schreibe eine kurze E-Mail über {}."),
        ("die Inflation", "das Wetter", "die Zelle", "das Recht"),
    ),
    (
        ("Explique-moi {}.", "Écris un court message sur {}."),
        ("la photosynthèse", "la météo", "la révolution", "le droit"),
    ),
    (
        ("Explícame {}.", "Escribe un correo breve sobre {}."),
        ("la inflación", "el tiempo", "la célula", "la historia"),
    ),
)


def own_prompts() -> list[str]:
    """The prompts of our own, always in this order."""
    prompts = [question.prompt for question in QUESTIONS]
    prompts += [task.format(topic) for task, topic in product(TASKS, TOPICS)]
    prompts += [task.format(job) for task, job in product(CODE, JOBS)]
    for tasks, topics in LANGUAGES:
        prompts += [task.format(topic) for task, topic in product(tasks, topics)]
    return prompts
