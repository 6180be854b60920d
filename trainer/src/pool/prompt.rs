//! What a general model is asked for the next query, and how its answer is read.

use super::collect::Turned;
use crate::endpoint::Ask;
use orion_policy::Retriever;

/// The task. Two labelled lines are what models of all sizes manage, the smallest of them with an example.
const TASK: &str = "You find documents in a search engine step by step. Each step, write one short thought about \
what the results so far show and what to ask next, and one new search query. Never repeat a query. Use words from the \
results where they help. Answer with exactly two lines:\nThought: <one sentence>\nQuery: <search query>";

/// Added where the model chooses a retriever.
const CHOICE: &str = "\nBegin the query with [lexical], [dense] or [hybrid]: whether it is looked up by its words, by \
its meaning, or both.";

/// What an answer looks like; the retriever stands before the query where it is chosen.
fn example(is_choice: bool) -> String {
    let chosen = if is_choice { "[hybrid] " } else { "" };
    format!(
        "\n\nAn example:\nQuestion: what keeps worms from eating a ship\nThought: Nothing was searched yet; name the part and \
         the remedy.\nQuery: {chosen}copper sheathing hull shipworm"
    )
}

/// Longest query that is taken, in words: beyond this it is an answer, not a query.
const LONGEST_QUERY_WORDS: usize = 64;
/// Longest thought that is kept, in characters.
const LONGEST_THOUGHT: usize = 400;

/// The question for turn `history.len() + 1`.
pub(super) fn next_query(question: &str, history: &[Turned], is_choice: bool, seed: u64) -> Ask {
    let mut user = format!("Question: {}\n", question.trim());
    for turned in history {
        user.push_str(&format!("Thought: {}\nQuery: {}\nResults:\n", turned.turn.think, turned.turn.query));
        for (place, snippet) in turned.shown.iter().enumerate() {
            user.push_str(&format!("{}. {}: {}\n", place + 1, snippet.title, snippet.text));
        }
    }
    let choice = if is_choice { CHOICE } else { "" };
    Ask {
        system: format!("{TASK}{choice}{}", example(is_choice)),
        user,
        lead: "Thought:",
        stop: &["\nResults:", "\nQuestion:"],
        seed,
    }
}

/// Thought, query and the chosen retriever; `None` where the answer has no query in the expected form.
pub(super) fn read(answer: &str) -> Option<(String, String, Option<Retriever>)> {
    let after = |label: &str| {
        answer.lines().find_map(|line| {
            let line = line.trim().trim_start_matches(['*', '#', '-', ' ']);
            let head = line.get(..label.len())?;
            head.eq_ignore_ascii_case(label)
                .then(|| line[label.len()..].trim().trim_start_matches("**").trim())
        })
    };
    let mut query = after("query:")?;
    let mut chosen = None;
    for retriever in Retriever::ALL {
        let name = format!("[{}]", crate::data::retriever_name(retriever));
        if let Some(rest) = query.get(..name.len()).filter(|head| head.eq_ignore_ascii_case(&name)) {
            query = query[rest.len()..].trim();
            chosen = Some(retriever);
        }
    }
    let query = query.trim_matches(['"', '“', '”', '`', '\'', ' ']);
    let words = query.split_whitespace().count();
    if !query.chars().any(char::is_alphanumeric) || LONGEST_QUERY_WORDS < words {
        return None;
    }
    let thought = after("thought:").unwrap_or_default();
    let thought = crate::trajectories::snippets::beginning(thought, LONGEST_THOUGHT);
    Some((thought, query.split_whitespace().collect::<Vec<_>>().join(" "), chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_several_habits_are_read() {
        let plain = read("Thought: nothing fits yet.\nQuery: cave bear diet isotopes");
        assert_eq!(plain, Some(("nothing fits yet.".into(), "cave bear diet isotopes".into(), None)));
        let adorned = read("Sure!\n**Thought:** ask wider\n- **query:** [Dense] \"cave  bears\"\n");
        assert_eq!(adorned, Some(("ask wider".into(), "cave bears".into(), Some(Retriever::Dense))));
        assert_eq!(read("query: überfluß"), Some((String::new(), "überfluß".into(), None)));
    }

    #[test]
    fn what_holds_no_query_is_no_answer() {
        let long = format!("Query: {}", "word ".repeat(65));
        for bad in ["", "I cannot help with that.", "Query:", "Query: ?!", "Thought: only", "Quer", &long] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
