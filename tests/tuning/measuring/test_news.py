"""The pipe of news: whole lines from many threads, nothing lost, nothing waited for."""

import threading
from pathlib import Path

from tuning.measuring.news import News, NewsDesk, tell

WRITERS, EACH = 4, 20


def test_news_arrive_whole_from_several_writers() -> None:
    heard: list[News] = []
    desk = NewsDesk(heard.append)

    def write(job: int) -> None:
        for number in range(EACH):
            tell(desk.pipe, News(job, text=f"{number} % ☃ " + "x" * 300))

    threads = [threading.Thread(target=write, args=(job,)) for job in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    desk.close()
    assert not desk.pipe.exists()
    for job in range(WRITERS):
        texts = [news.text for news in heard if news.job == job]
        assert texts == [f"{number} % ☃ " + "x" * 300 for number in range(EACH)]


def test_nobody_listens_and_nothing_happens(tmp_path: Path) -> None:
    tell(tmp_path / "gone", News(1, address="10.0.0.2:9090"))
