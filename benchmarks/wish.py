"""What a measured stream is asked for, in the text of its request."""


def wish(text: str) -> tuple[list[str], float]:
    """The words that are wanted, and seconds before each: ``30 0.05`` asks for thirty, twenty a second."""
    count, _, delay = text.partition(" ")
    return [f"w{number} " for number in range(int(count))], float(delay or 0)
