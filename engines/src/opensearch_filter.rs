//! Conditions as OpenSearch's and Elasticsearch's query clauses.

use serde_json::{Value as Json, json};

use crate::{
    condition::{Condition, Operator},
    document::Value,
};

/// A clause for filter context.
pub(crate) fn clause(condition: &Condition) -> Json {
    match condition {
        Condition::Or(conditions) => {
            let clauses: Vec<Json> = conditions.iter().map(clause).collect();
            json!({ "bool": { "should": clauses, "minimum_should_match": 1 } })
        }
        Condition::And(conditions) => {
            let clauses: Vec<Json> = conditions.iter().map(clause).collect();
            json!({ "bool": { "filter": clauses } })
        }
        Condition::Not(inner) => json!({ "bool": { "must_not": [clause(inner)] } }),
        Condition::Exists { name } => json!({ "exists": { "field": name } }),
        Condition::Compare { name, operator: Operator::NotEqual, value } => json!({ "bool": {
            "filter": [{ "exists": { "field": name } }],
            "must_not": [compare(name, Operator::Equal, value)],
        } }),
        Condition::Compare { name, operator, value } => compare(name, *operator, value),
    }
}

fn compare(name: &str, operator: Operator, value: &Value) -> Json {
    let bound = match operator {
        Operator::Less => "lt",
        Operator::LessOrEqual => "lte",
        Operator::Greater => "gt",
        Operator::GreaterOrEqual => "gte",
        Operator::Equal | Operator::NotEqual => {
            let given = value.with_dates();
            return match value {
                Value::Text(_) => json!({ "match": { name: { "query": given, "operator": "and" } } }),
                // Written as a range, since a term of a date is compared in the field's own format.
                Value::Date { .. } => json!({ "range": { name: { "gte": given, "lte": given } } }),
                _ => json!({ "term": { name: given } }),
            };
        }
    };
    json!({ "range": { name: { bound: value.with_dates() } } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_become_clauses() {
        let compare =
            |name: &str, operator, value| Condition::Compare { name: name.to_owned(), operator, value };
        let condition = Condition::And(vec![
            compare("year", Operator::GreaterOrEqual, Value::Number(340.0)),
            Condition::Or(vec![
                compare("kind", Operator::Equal, Value::Keyword("letter".to_owned())),
                Condition::Not(Box::new(Condition::Exists { name: "kind".to_owned() })),
            ]),
            compare("draft", Operator::NotEqual, Value::Boolean(true)),
        ]);
        assert_eq!(
            clause(&condition),
            json!({ "bool": { "filter": [
                { "range": { "year": { "gte": 340.0 } } },
                { "bool": { "should": [
                    { "term": { "kind": "letter" } },
                    { "bool": { "must_not": [{ "exists": { "field": "kind" } }] } },
                ], "minimum_should_match": 1 } },
                { "bool": {
                    "filter": [{ "exists": { "field": "draft" } }],
                    "must_not": [{ "term": { "draft": true } }],
                } },
            ] } })
        );
        let date = Value::Date { seconds: 0, text: "1970-01-01T00:00:00Z".to_owned() };
        assert_eq!(
            clause(&compare("at", Operator::Equal, date)),
            json!({ "range": { "at": { "gte": "1970-01-01T00:00:00Z", "lte": "1970-01-01T00:00:00Z" } } })
        );
        assert_eq!(
            clause(&compare("note", Operator::Equal, Value::Text("two words".to_owned()))),
            json!({ "match": { "note": { "query": "two words", "operator": "and" } } })
        );
    }
}
