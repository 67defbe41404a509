"""Where each dataset comes from, its licence, what it is used for: errors, ``spact doctor`` and notebook 01 say it."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A dataset's card. ``licence`` is what the providers state; where we found no statement, it says so."""

    title: str
    content: str
    licence: str
    files: str  # what to get
    url: str  # and from where
    use: str


_VP = Source(
    title="VP-UCF101, VP-HMDB51",
    content="STPrivacy, ICCV 2023; five attributes for each video of UCF101 and HMDB51",
    licence="MIT (the labels)",
    files="lists and videos of UCF101, HMDB51; vp_ucf101.csv, vp_hmdb51.csv of the repository of STPrivacy (ICCV 2023)",
    url="https://github.com/ming1993li/stprivacy",
    use="not in the paper: a protocol that needs one dataset only",
)

SOURCES = {
    "ucf101": Source(
        title="UCF101",
        content="Soomro, Zamir, Shah, CRCV-TR-12-01, 2012; 13,320 videos from YouTube, 101 actions",
        licence="not stated",
        files="UCF101.rar (6.5 GB) and UCF101TrainTestSplits-RecognitionTask.zip",
        url="https://www.crcv.ucf.edu/data/UCF101.php",
        use="known actions: Tables 1 to 6, Fig. 4",
    ),
    "hmdb51": Source(
        title="HMDB51",
        content="Kuehne, Jhuang, Garrote, Poggio, Serre, ICCV 2011; 6,766 clips from films and the web, 51 actions",
        licence="CC BY 4.0 (the database; the films have their own owners)",
        files="hmdb51_org.rar (2 GB, an archive for each class in it) and test_train_splits.rar",
        url="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/",
        use="novel actions: Table 2; videos of PA-HMDB51",
    ),
    "pa_hmdb51": Source(
        title="PA-HMDB51",
        content="Wu et al. ([41] of the paper), TPAMI 2020; frame ranges of 515 HMDB51 videos, five attributes",
        licence="research only, not commercial, cite the paper (LICENSE in the repository)",
        files="the folder PrivacyAttributes of the repository (Code, Download ZIP); the videos are HMDB51's",
        url="https://github.com/VITA-Group/PA-HMDB51",
        use="action and attributes of the same videos: Table 1; transfer: Table 2",
    ),
    "vispr": Source(
        title="VISPR",
        content="Orekondy, Schiele, Fritz, ICCV 2017; 22,167 photographs from Flickr, 68 attributes",
        licence="not stated; each photograph has its own",
        files="the archives of images and of annotations, and the lists, of train, val and test",
        url="https://tribhuvanesh.github.io/vpa/",
        use="privacy attributes: VISPR1 in Tables 1 to 6, VISPR2 (novel; six of seven to be confirmed) in Table 2",
    ),
    "phvu": Source(
        title="P-HVU",
        content="the part of HVU (Diba et al., ECCV 2020; YouTube) with an action, an object and a scene tag",
        licence="not stated",
        files="HVU_Train_V1.0.csv, HVU_Val_V1.0.csv, HVU_Tags_Categories_V1.0.csv; clips by its downloader or form",
        url="https://github.com/holistic-video-understanding/HVU-Dataset",
        use="action against objects and scenes: Tables 1 and 2",
    ),
    "vp_ucf101": _VP,
    "vp_hmdb51": _VP,
}


def how_to_prepare(name: str) -> str:
    """The command that writes a dataset, or its variant: ``ucf101_split2``, ``hmdb51_without_pa``, ``vispr_pa``."""
    known = _known(name) or name
    split = re.search(r"_split([23])", name)
    options = (f" --split {split[1]}" if split else "") + (" --without-pa DIR" if name.endswith("_without_pa") else "")
    return f"spact prepare {known} --root DIR{options}"


def _known(name: str) -> str | None:
    variant = "(_split[23])?(_without_pa|_pa|_videos)?"
    return next((known for known in SOURCES if re.fullmatch(known + variant, name)), None)


def how_to_get(name: str) -> str:
    """Which files of a dataset or its variant to get, and from where; "" for one that has no card."""
    known = _known(name)
    if known is None:
        return ""
    source = SOURCES[known]
    return f"to get {source.title}: {source.files}, from {source.url}"


def cards() -> str:
    """The cards as a Markdown table."""
    lines = ["| dataset | source | licence | how to get it | used for |", "|---|---|---|---|---|"]
    for card in dict.fromkeys(SOURCES.values()):
        how = f"{card.files}: <{card.url}>"
        lines.append(f"| **{card.title}** | {card.content} | {card.licence} | {how} | {card.use} |")
    return "\n".join(lines)
