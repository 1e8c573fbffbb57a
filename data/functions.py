#!/usr/bin/env python3
"""Small tasks of one line, each said in several ways (Todd et al. 2024, "Function vectors", MIT: word and list tasks;
Honovich et al. 2022, "Instruction induction", Apache-2.0: tasks with instructions that people wrote) -> train.bin,
val.bin, test_wordings.bin, test_tasks.bin.

  train          the seen tasks in all their wordings but the last; 12 inputs of each are for val, 40 for test_wordings
  test_wordings  seen tasks, in the wording that was kept out, about inputs that were kept out
  test_tasks     tasks that were kept out, in all their wordings, 100 inputs of each

A quarter of the tasks is kept out. Variants of one task (choose from three, from five; antonym, antonyms) are on the
same side. Some differ in letter case alone (first_letter, first_letter_capital): report on them with ./sft eval
--strict. HELD_OUT below is what this script drew by seed 1 before any model saw the data;
test/scripts/test_instruct_data.py checks that it is.
"""

import json
import os

from lib.arguments import cache_flag
from lib.download import download
from lib.errors import Failure, Usage, run_script
from lib.file_kinds import read_json
from lib.instruct import check_instruct_arguments, instruct_parser, write_instruct_dataset
from lib.rows import field, json_objects
from lib.splits import sample_names
from lib.text_files import find_named, whole_text

FUNCTIONS_URL = "https://raw.githubusercontent.com/ericwtodd/function_vectors/main/dataset_files/{file}"
INDUCTION_URL = "https://raw.githubusercontent.com/orhonovich/instruction-induction/main/data/{file}"

# family: {kind: (tasks of function vectors, tasks of instruction induction, wordings of ours)}. Tasks of one kind are
# the same skill. The wordings of instruction induction come from its annotators, where there are enough; the last
# wording of each kind is kept out.
TASKS = {
    "list": {
        "choose_first": (
            ["choose_first_of_5"],
            [],
            [
                "Choose the first word of the list.",
                "What is the first item in this list?",
                "Write the word that comes first.",
                "Name the first thing that is listed.",
                "Which word stands at the beginning?",
                "Copy the first word.",
            ],
        ),
        "choose_middle": (
            ["choose_middle_of_3", "choose_middle_of_5"],
            [],
            [
                "Choose the word in the middle of the list.",
                "What is the middle item of this list?",
                "Write the word that stands in the middle.",
                "Name the thing that is listed in the middle.",
                "Which word is in the centre?",
                "Copy the middle word.",
            ],
        ),
        "alphabetically_last": (
            ["alphabetically_last_3", "alphabetically_last_5"],
            [],
            [
                "Which of these words comes last in the alphabet?",
                "Choose the word that is last in alphabetical order.",
                "Sort the words by the alphabet and write the last one.",
                "Write the word that a dictionary would list last.",
                "Name the alphabetically last word.",
                "Find the last word in alphabetical order.",
            ],
        ),
        "animal_v_object": (
            ["animal_v_object_3"],
            [],
            [
                "Which of these is an animal?",
                "Choose the animal from the list.",
                "Write the word that names an animal.",
                "Find the animal among the objects.",
                "Name the animal.",
                "One of these words is an animal. Which?",
            ],
        ),
        "color_v_animal": (
            ["color_v_animal_3", "color_v_animal_5"],
            [],
            [
                "Which of these is a colour?",
                "Choose the colour from the list.",
                "Write the word that names a colour.",
                "Find the colour among the animals.",
                "Name the colour.",
                "One of these words is a colour. Which?",
            ],
        ),
        "fruit_v_animal": (
            ["fruit_v_animal_3"],
            [],
            [
                "Which of these is a fruit?",
                "Choose the fruit from the list.",
                "Write the word that names a fruit.",
                "Find the fruit among the animals.",
                "Name the fruit.",
                "One of these words is a fruit. Which?",
            ],
        ),
        "adjective_v_verb": (
            ["adjective_v_verb_3", "adjective_v_verb_5"],
            [],
            [
                "Which of these words is an adjective?",
                "Choose the adjective from the list.",
                "Write the word that describes how something is.",
                "Find the adjective among the verbs.",
                "Name the adjective.",
                "One of these words is an adjective. Which?",
            ],
        ),
        "verb_v_adjective": (
            ["verb_v_adjective_3", "verb_v_adjective_5"],
            [],
            [
                "Which of these words is a verb?",
                "Choose the verb from the list.",
                "Write the word that says what someone does.",
                "Find the verb among the adjectives.",
                "Name the verb.",
                "One of these words is a verb. Which?",
            ],
        ),
        "concept_v_object": (
            ["concept_v_object_3"],
            [],
            [
                "Which of these words is not a thing that one can touch?",
                "Choose the word that names no object.",
                "Write the word that is an idea and not an object.",
                "Find the concept among the objects.",
                "Name the abstract word.",
                "Only one of these words is no object. Which?",
            ],
        ),
        "object_v_concept": (
            ["object_v_concept_3", "object_v_concept_5"],
            [],
            [
                "Which of these words is a thing that one can touch?",
                "Choose the word that names an object.",
                "Write the word that is an object and not an idea.",
                "Find the object among the other words.",
                "Name the object.",
                "Only one of these words is an object. Which?",
            ],
        ),
        "taxonomy_animal": ([], ["taxonomy_animal"], []),
        "larger_animal": ([], ["larger_animal"], []),
    },
    "letters": {
        "capitalize": (
            ["capitalize"],
            [],
            [
                "Write the word with a capital first letter.",
                "Begin the word with a capital.",
                "Capitalize the word.",
                "Write this word as at the beginning of a sentence.",
                "Make the first letter of the word large and keep the others.",
                "Put the word in title case.",
            ],
        ),
        "first_letter_capital": (
            ["capitalize_first_letter"],
            [],
            [
                "What is the first letter of the word, as a capital?",
                "Write only the first letter, in upper case.",
                "Give the capital letter that the word begins with.",
                "First letter of the word, large.",
                "Write the initial of the word as a capital letter.",
                "Which capital letter would begin this word?",
            ],
        ),
        "first_letter": (
            ["lowercase_first_letter"],
            ["first_word_letter"],
            [
                "What is the first letter of the word, in lower case?",
                "Write only the first letter, small.",
                "Give the letter that the word begins with, in lower case.",
                "First letter of the word, small.",
                "Write the initial of the word as a small letter.",
                "Which small letter begins this word?",
            ],
        ),
        "last_letter_capital": (
            ["capitalize_last_letter"],
            [],
            [
                "What is the last letter of the word, as a capital?",
                "Write only the last letter, in upper case.",
                "Give the capital letter that the word ends with.",
                "Last letter of the word, large.",
                "Write the final letter of the word as a capital.",
                "Which capital letter would end this word?",
            ],
        ),
        "last_letter": (
            ["lowercase_last_letter"],
            [],
            [
                "What is the last letter of the word, in lower case?",
                "Write only the last letter, small.",
                "Give the letter that the word ends with, in lower case.",
                "Last letter of the word, small.",
                "Write the final letter of the word as a small one.",
                "Which small letter ends this word?",
            ],
        ),
        "second_letter_capital": (
            ["capitalize_second_letter"],
            [],
            [
                "What is the second letter of the word, as a capital?",
                "Write only the second letter, in upper case.",
                "Give the second letter as a capital.",
                "Second letter of the word, large.",
                "Write the letter after the first one, in upper case.",
                "Which capital letter would be second in this word?",
            ],
        ),
        "second_letter": ([], ["second_word_letter"], []),
        "letters_list": ([], ["letters_list"], []),
        "word_length": (
            ["word_length"],
            [],
            [
                "How many letters does the word have?",
                "Count the letters of the word.",
                "Write the length of the word as a number.",
                "Give the number of letters.",
                "Of how many letters is this word made?",
                "Word length, please, in digits.",
            ],
        ),
        "orthography_starts_with": ([], ["orthography_starts_with"], []),
    },
    "words": {
        "antonym": (["antonym"], ["antonyms"], ["Write the opposite of the word."]),
        "synonym": ([], ["synonyms"], []),
        "plural": (["singular-plural"], ["singular_to_plural"], ["Write the plural of the word."]),
        "past": (
            ["present-past"],
            [],
            [
                "Write the verb in the past tense.",
                "What is the past form of this verb?",
                "Say it as if it had happened yesterday.",
                "Turn the verb from the present into the past.",
                "Give the simple past.",
                "Past tense of this verb:",
            ],
        ),
        "next": (
            ["next_item"],
            [],
            [
                "What comes next?",
                "Write what follows this.",
                "Which item comes after this one?",
                "Name what is next in the series.",
                "Say the one that follows.",
                "Continue the series with the next one.",
            ],
        ),
        "previous": (
            ["prev_item"],
            [],
            [
                "What comes before this?",
                "Write what precedes this.",
                "Which item comes just before this one?",
                "Name what was before it in the series.",
                "Say the one before.",
                "Go one step back in the series.",
            ],
        ),
        "french": (
            ["english-french"],
            [],
            [
                "Translate the word into French.",
                "What is this word in French?",
                "Write the French word for it.",
                "Say it in French.",
                "English to French:",
                "How do the French say this?",
            ],
        ),
        "german": (
            ["english-german"],
            ["translation_en-de"],
            [
                "Translate the word into German.",
                "What is this word in German?",
                "Write the German word for it.",
                "Say it in German.",
                "English to German:",
                "How do Germans say this?",
            ],
        ),
        "spanish": (
            ["english-spanish"],
            ["translation_en-es"],
            [
                "Translate the word into Spanish.",
                "What is this word in Spanish?",
                "Write the Spanish word for it.",
                "Say it in Spanish.",
                "English to Spanish:",
                "How do the Spanish say this?",
            ],
        ),
    },
    "numbers": {"sum": ([], ["sum"], []), "diff": ([], ["diff"], []), "num_to_verbal": ([], ["num_to_verbal"], [])},
    "sentences": {
        "sentiment": (["sentiment"], ["sentiment"], ["Is this review positive or negative?"]),
        "active_to_passive": ([], ["active_to_passive"], []),
        "negation": ([], ["negation"], []),
        "sentence_similarity": ([], ["sentence_similarity"], []),
    },
    "facts": {
        "capital": (
            ["country-capital"],
            [],
            [
                "What is the capital of this country?",
                "Name the capital.",
                "Write the capital city of the country.",
                "Which city is this country governed from?",
                "Capital of this country:",
                "Give the country's capital city.",
            ],
        ),
        "currency": (
            ["country-currency"],
            [],
            [
                "What is the currency of this country?",
                "Name the money that is used there.",
                "Write the currency of the country.",
                "What do people pay with in this country?",
                "Currency of this country:",
                "Give the country's currency.",
            ],
        ),
        "landmark": (
            ["landmark-country"],
            [],
            [
                "In which country is this place?",
                "Name the country of this landmark.",
                "Write the country where it lies.",
                "Where in the world is this? Give the country.",
                "Country of this place:",
                "To which country does this place belong?",
            ],
        ),
        "park": (
            ["national_parks"],
            [],
            [
                "In which state of the USA is this park?",
                "Name the state of this national park.",
                "Write the state where the park lies.",
                "Which American state has this park?",
                "State of this park:",
                "To which state does this park belong?",
            ],
        ),
        "instrument": (
            ["person-instrument"],
            [],
            [
                "Which instrument does this person play?",
                "Name the musician's instrument.",
                "Write the instrument that this person plays.",
                "What does this musician play?",
                "Instrument of this musician:",
                "Give the instrument of this person.",
            ],
        ),
        "occupation": (
            ["person-occupation"],
            [],
            [
                "What is this person's occupation?",
                "Name the profession of this person.",
                "Write what this person does for a living.",
                "As what did this person work?",
                "Occupation of this person:",
                "Give the job of this person.",
            ],
        ),
        "sport": (
            ["person-sport"],
            [],
            [
                "Which sport does this person play?",
                "Name the athlete's sport.",
                "Write the sport of this person.",
                "What does this athlete play?",
                "Sport of this athlete:",
                "Give the sport of this person.",
            ],
        ),
        "company": (
            ["product-company"],
            [],
            [
                "Which company makes this product?",
                "Name the maker of this product.",
                "Write the company behind this.",
                "Who makes this?",
                "Company of this product:",
                "By whom is this product made?",
            ],
        ),
    },
}
KINDS = {kind: family for family, kinds in TASKS.items() for kind in kinds}
HELD_OUT = [
    "animal_v_object",
    "capitalize",
    "company",
    "first_letter_capital",
    "fruit_v_animal",
    "landmark",
    "larger_animal",
    "letters_list",
    "negation",
    "orthography_starts_with",
    "word_length",
]
OPTIONS = {
    "sentiment": ["negative", "positive"],
    "sentence_similarity": [
        "0 - definitely not",
        "1 - probably not",
        "2 - possibly",
        "3 - probably",
        "4 - almost perfectly",
        "5 - perfectly",
    ],
}


def draw_held_out(seed=1):
    """A quarter of the kinds"""
    return sorted(sample_names(KINDS, "held out %d" % seed, len(KINDS) // 4))


def checked(value, where):
    if not isinstance(value, dict):
        raise Failure("%s: expected a JSON object, found %.40s" % (where, json.dumps(value)))
    return value


def wordings_of(value, where):
    """{"annotations": [text, ...]}"""
    found = field(value, "annotations", where, list)
    if not all(isinstance(w, str) for w in found):
        raise Failure("%s: annotations: expected a list of strings, found %.40s" % (where, json.dumps(found)))
    return found


class Folder:
    """function_vectors_tasks.jsonl, instruction_induction.jsonl and instruction_induction_annotations.json"""

    def __init__(self, path):
        self.rows = {}
        for file in ("function_vectors_tasks", "instruction_induction"):
            for row, where in json_objects(*find_named([path], file + ".jsonl")):
                self.rows.setdefault((file, field(row, "task", where)), []).append((row, where))
        name, opener = find_named([path], "instruction_induction_annotations.json")
        try:
            all_of_them = json.loads(whole_text(name, opener))
        except (ValueError, RecursionError) as e:
            raise Failure("%s: expected a JSON object, found something else: %s" % (name, e))
        self.wordings = {
            task: wordings_of(value, "%s: %s" % (name, task)) for task, value in checked(all_of_them, name).items()
        }

    def functions(self, task):
        return self.rows.get(("function_vectors_tasks", task), [])

    def induction(self, task):
        return self.rows.get(("instruction_induction", task), [])

    def annotations(self, task):
        return self.wordings.get(task, [])


class Web:
    """The same from the two repositories, file by file"""

    def __init__(self, urls, cache):
        self.urls, self.cache = urls, cache

    def json(self, which, file):
        path = download(self.urls[which].replace("{file}", file), os.path.join(self.cache, which, file))
        return read_json(path, (dict, list), "a JSON object or array"), path

    def functions(self, task):
        extractive = task in {t for functions, _, wordings in TASKS["list"].values() for t in functions}
        rows, path = self.json("functions", "%s/%s.json" % ("extractive" if extractive else "abstractive", task))
        order = sample_names(range(len(rows)), 1, 600)  # the translations have thousands
        return [(rows[i], "%s, element %d" % (path, i + 1)) for i in sorted(order)]

    def induction(self, task):
        found = []
        for part in ("induce", "execute"):
            data, path = self.json("induction", "raw/%s/%s.json" % (part, task))
            found += [(row, "%s, example %s" % (path, n)) for n, row in field(data, "examples", path, dict).items()]
        return found[:1100]

    def annotations(self, task):
        return wordings_of(*self.json("induction", "annotations/%s.json" % task))


def answers(row, where):
    outputs = [field(row, "output", where)]
    return outputs + [t for t in row.get("possible_translations", []) if isinstance(t, str) and t not in outputs]


def rows_of(kind, source, seed):
    """{part: rows} of one kind of task"""
    functions, induction, wordings = TASKS[KINDS[kind]][kind]
    wordings = wordings + [w.strip() for task in induction for w in source.annotations(task) if w.strip()]
    wordings = sorted(set(wordings), key=wordings.index)
    if len(wordings) < 3:
        raise Failure("%s: expected at least 3 wordings of the instruction, found %d" % (kind, len(wordings)))
    by_input = {}  # of all tasks of the kind together, so that no input is on two sides
    for task, rows in [(t, source.functions(t)) for t in functions] + [(t, source.induction(t)) for t in induction]:
        if not rows:
            raise Failure("%s: expected rows of this task, found none" % task)
        for row, where in rows:
            outputs, _ = by_input.setdefault(field(row, "input", where).strip(), ([], where))
            outputs += [a for a in answers(row, where) if a not in outputs]
    found = {}
    for place, row_input in enumerate(sample_names(by_input, "%s %d" % (kind, seed), None)):
        outputs, where = by_input[row_input]
        part = "test_tasks" if kind in HELD_OUT else "val" if place < 12 else "test_wordings" if place < 52 else "train"
        if part == "test_tasks" and place >= 100:
            break
        known = wordings if part == "test_tasks" else wordings[-1:] if part == "test_wordings" else wordings[:-1]
        row = {
            "instruction": sample_names(known, "%s %s %d" % (kind, row_input, seed), 1)[0],
            "input": row_input,
            "output": outputs,
            "task": KINDS[kind] + "/" + kind,
        }
        options = OPTIONS.get(kind) or (sorted(set(row_input.split(", "))) if KINDS[kind] == "list" else [])
        if len(options) > 1 and set(outputs) <= set(options):
            row["options"] = options
        found.setdefault(part, []).append((row, where))
    return found


def main():
    p = instruct_parser(
        __doc__,
        """\
  data/functions.py --tokenizer runs/gpt --out datasets/functions --template short
  data/functions.py --tasks 4 --from instruction --tokenizer runs/gpt --out datasets/functions4
""",
    )
    p.add_argument(
        "--tasks",
        type=int,
        metavar="N",
        help="train on N of the seen tasks, drawn by the seed; those of a smaller N are among them (default: all)",
    )
    p.add_argument(
        "--from",
        dest="source",
        metavar="DIR",
        help="use the files in this folder (function_vectors_tasks.jsonl, instruction_induction.jsonl, "
        "instruction_induction_annotations.json) and download nothing",
    )
    p.add_argument(
        "--functions-url", default=FUNCTIONS_URL, help="where the first repository's files are (default %(default)s)"
    )
    p.add_argument("--induction-url", default=INDUCTION_URL, help="where the second one's are (default %(default)s)")
    cache_flag(p, "functions")
    args = p.parse_args()
    for flag, url in (("--functions-url", args.functions_url), ("--induction-url", args.induction_url)):
        if "{file}" not in url:
            raise Usage("%s: expected {file} in place of the name, found %s" % (flag, url))
    seen = sample_names(sorted(set(KINDS) - set(HELD_OUT)), args.seed, None)
    if args.tasks is not None and not 1 <= args.tasks <= len(seen):
        raise Usage("--tasks: expected 1 to %d, found %d" % (len(seen), args.tasks))
    check_instruct_arguments(args)
    source = (
        Folder(args.source)
        if args.source
        else Web({"functions": args.functions_url, "induction": args.induction_url}, args.cache)
    )
    parts = {"train": [], "val": [], "test_wordings": [], "test_tasks": []}
    for kind in seen[: args.tasks] + HELD_OUT:
        for part, rows in rows_of(kind, source, args.seed).items():
            parts[part] += rows
    print("%d tasks for training; kept out: %s" % (len(seen[: args.tasks]), ", ".join(HELD_OUT)))
    write_instruct_dataset(args, parts)


if __name__ == "__main__":
    run_script(main)
