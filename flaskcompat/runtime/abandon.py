"""Ending a run whose reader has left."""

from __future__ import annotations


class Abandoned(BaseException):
    """The reader has left: what makes the answer shall end.

    No ``Exception``, or a pipeline would wrap it, write a snapshot, and a fallback generator would start the next
    model.
    """


def close_upstreams(abandoned: BaseException) -> None:
    """Close the model streams that a run left open when it was abandoned.

    The client library's stream objects sit in reference cycles, so that tokens would keep coming, and being paid
    for, until the garbage collector runs. They are found in the frames that the exception passed through.
    """
    error: BaseException | None = abandoned
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback = error.__traceback__
        while traceback is not None:
            for value in list(traceback.tb_frame.f_locals.values()):
                kind = type(value)
                if id(value) not in seen and kind.__name__ == "Stream" and kind.__module__.startswith("openai"):
                    seen.add(id(value))
                    value.close()
            traceback = traceback.tb_next
        error = error.__cause__ or error.__context__
