//! The characteristic move of each archetype, as a test of any walk: what its row in the table says, and no more.

use orion_sdk::text::{is_stop_word, words};

use crate::walked::{Step, Walked};

/// The test of this archetype's move.
pub(crate) fn characteristic(of: &str) -> fn(&Walked) -> bool {
    match of {
        "adaptive-context-learner" => adds_words_of_results,
        "random-walk-wanderer" => jumps_on_whatever_happens,
        "breadth-first-explorer" => covers_siblings_before_depth,
        "depth-first-driller" => drills_exhausts_backtracks,
        "wrong-direction-specialist" => notices_explains_turns,
        "early-success-validator" => confirms_an_early_success,
        "exploitation-heavy-validator" => refines_the_best_and_nothing_else,
        "greedy-hill-climber" => takes_the_best_of_several,
        "best-first-hypothesis-selector" => pursues_the_most_promising,
        "multi-beam-parallel" => runs_lines_side_by_side,
        "pseudo-document" => searches_for_an_answer,
        other => panic!("no archetype is called {other}"),
    }
}

fn content(text: &str) -> Vec<String> {
    words(text).into_iter().filter(|word| !is_stop_word(word)).collect()
}

fn shares_a_word(left: &str, right: &str) -> bool {
    let right = content(right);
    content(left).iter().any(|word| right.contains(word))
}

/// Whether each step continues the one before, the first the user's query.
fn is_line(steps: &[Step]) -> bool {
    steps
        .iter()
        .enumerate()
        .all(|(index, step)| step.parent == if index == 0 { 0 } else { steps[index - 1].branch })
}

fn is_falling(walked: &Walked) -> bool {
    walked.steps.windows(2).all(|pair| pair[1].quality < pair[0].quality)
}

/// Whether the first three are of the user's query, one a turn.
fn opens_three(steps: &[Step]) -> bool {
    steps.len() >= 3
        && steps[..3]
            .iter()
            .enumerate()
            .all(|(index, step)| step.parent == 0 && step.turn == index as u32 + 1)
}

fn best(steps: &[Step]) -> &Step {
    steps.iter().reduce(|best, step| if best.quality < step.quality { step } else { best }).expect("steps")
}

/// Every query is the one before and words that stand in what it found.
fn adds_words_of_results(walked: &Walked) -> bool {
    let learns = |before: &Step, after: &Step| {
        let (old, new) = (content(&before.query), content(&after.query));
        let found: Vec<String> = before.hits.iter().flat_map(|id| words(&walked.documents[id])).collect();
        let mut added = new.iter().filter(|word| !old.contains(word)).peekable();
        old.iter().all(|word| new.contains(word))
            && added.peek().is_some()
            && added.all(|word| found.contains(word))
    };
    walked.steps.len() >= 3
        && is_line(&walked.steps)
        && walked.steps.windows(2).all(|pair| learns(&pair[0], &pair[1]))
}

/// One line of queries that have nothing in common, though the results get worse at every step.
fn jumps_on_whatever_happens(walked: &Walked) -> bool {
    walked.steps.len() == 5
        && is_line(&walked.steps)
        && is_falling(walked)
        && walked.steps.windows(2).all(|pair| !shares_a_word(&pair[0].query, &pair[1].query))
}

/// Three topics, one a turn, then deeper into the first and the second, though the third was the best.
fn covers_siblings_before_depth(walked: &Walked) -> bool {
    let steps = &walked.steps;
    opens_three(steps)
        && steps.len() == 5
        && best(&steps[..3]).branch == steps[2].branch
        && (steps[3].parent, steps[4].parent) == (steps[0].branch, steps[1].branch)
}

/// A line of at least three, the last of which brings nothing new; then another way from the query above it.
fn drills_exhausts_backtracks(walked: &Walked) -> bool {
    let steps = &walked.steps;
    (3..steps.len()).any(|depth| {
        let (line, next) = (&steps[..depth], &steps[depth]);
        let earlier: Vec<&String> = line[..depth - 1].iter().flat_map(|step| &step.hits).collect();
        is_line(line)
            && line[depth - 1].hits.iter().all(|id| earlier.contains(&id))
            && next.parent == line[depth - 2].branch
    })
}

/// After a fall of quality the next query starts from the one before the fall, has nothing of the wrong one, and its
/// thought gives both numbers and says that it turns back.
fn notices_explains_turns(walked: &Walked) -> bool {
    walked.steps.windows(3).any(|steps| {
        let [good, wrong, next] = steps else { return false };
        let numbers = [good, wrong].map(|step| format!("{:.2}", step.quality));
        wrong.parent == good.branch
            && wrong.quality <= good.quality - 0.1
            && next.parent == good.branch
            && !shares_a_word(&wrong.query, &next.query)
            && numbers.iter().all(|number| next.think.contains(number))
            && next.think.contains("turn back")
    })
}

/// The first query is a success, everything after it stays with it, and the walk ends with turns to spare.
fn confirms_an_early_success(walked: &Walked) -> bool {
    let steps = &walked.steps;
    (2..5).contains(&steps.len())
        && steps.iter().all(|step| !step.pruned && step.quality >= 0.6)
        && steps
            .iter()
            .skip(1)
            .all(|step| step.parent >= steps[0].branch && shares_a_word(&step.query, &steps[0].query))
        && walked.stopped != "exhausted"
}

/// Every turn refines the same best query, keeping at least half of it, though none is an improvement.
fn refines_the_best_and_nothing_else(walked: &Walked) -> bool {
    let Some((first, refinements)) = walked.steps.split_first() else { return false };
    let wanted = content(&first.query);
    let keeps_half = |step: &Step| {
        let kept = content(&step.query);
        2 * wanted.iter().filter(|word| kept.contains(word)).count() >= wanted.len()
    };
    refinements.len() == 4
        && refinements
            .iter()
            .all(|step| step.parent == first.branch && step.quality < first.quality && keeps_half(step))
}

/// Every turn tries several queries of one parent and keeps the best alone, which is better than the last one kept; the
/// last turn may keep none, where none was better.
fn takes_the_best_of_several(walked: &Walked) -> bool {
    let last = walked.steps.iter().map(|step| step.turn).max().unwrap_or(0);
    let mut height = f32::NEG_INFINITY;
    last >= 2
        && (1..=last).all(|turn| {
            let tried = walked.turn(turn);
            let kept: Vec<&&Step> = tried.iter().filter(|step| step.chosen).collect();
            let [kept] = kept[..] else { return turn == last && walked.stopped == "local optimum" };
            let is_best = tried.iter().all(|step| step.parent == kept.parent && step.quality <= kept.quality);
            let rises = height < kept.quality;
            height = kept.quality;
            tried.len() >= 2 && is_best && rises
        })
}

/// Three hypotheses, one a turn; the best is pursued, disappoints, and the second best is.
fn pursues_the_most_promising(walked: &Walked) -> bool {
    let steps = &walked.steps;
    if !opens_three(steps) || steps.len() < 5 {
        return false;
    }
    let first = best(&steps[..3]);
    let others = steps[..4].iter().filter(|step| step.branch != first.branch);
    let second = others.reduce(|best, step| if best.quality < step.quality { step } else { best });
    steps[3].parent == first.branch
        && steps[3].quality < first.quality
        && second.is_some_and(|second| steps[4].parent == second.branch && second.branch != steps[3].branch)
}

/// Three lines in the first turn, and at least two of them go on in the second.
fn runs_lines_side_by_side(walked: &Walked) -> bool {
    let (first, second) = (walked.turn(1), walked.turn(2));
    let goes_on = |step: &&Step| first.iter().any(|line| line.branch == step.parent) && step.chosen;
    first.len() >= 3
        && first.iter().all(|step| step.chosen && step.parent == 0)
        && second.len() >= 2
        && second.iter().all(goes_on)
        && second.windows(2).all(|pair| pair[0].parent != pair[1].parent)
}

/// Every query is a passage that begins as an answer does; the later ones quote what was found.
fn searches_for_an_answer(walked: &Walked) -> bool {
    let steps = &walked.steps;
    let quotes = |step: &Step| {
        let found =
            steps.iter().filter(|earlier| earlier.branch < step.branch).flat_map(|earlier| &earlier.hits);
        let mut texts = found.map(|id| words(&walked.documents[id]).join(" "));
        let passage = words(&step.query).join(" ");
        texts.any(|text| {
            text.split(' ').collect::<Vec<_>>().windows(4).any(|run| passage.contains(&run.join(" ")))
        })
    };
    steps.len() >= 2
        && steps.iter().all(|step| step.query.starts_with("The reason why") && words(&step.query).len() >= 8)
        && steps.iter().skip(1).all(quotes)
}
