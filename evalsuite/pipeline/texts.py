"""What a set of texts is like as a whole."""


def text_findings(part, policy, remember):
    return [], []
