//! Several values of one name, and names with dots, against a twin that looks at every value.

use std::collections::{BTreeMap, BTreeSet};

use orion_index::{Clause, Filter, Index, IndexSettings, Kind, Order, Value};
use proptest::prelude::*;

use crate::common::{document, options};

/// The name of the numbers, and one that a path with the same words would stand for.
const NAMES: [&str; 2] = ["reviews.stars", "reviews"];

fn several(numbers: &[i32]) -> Option<Value> {
    let number = |number: &i32| Value::Number(f64::from(*number));
    match numbers {
        [] => None,
        [one] => Some(number(one)),
        _ => Some(Value::Several(numbers.iter().map(number).collect())),
    }
}

fn indexed(rows: &[Vec<i32>]) -> (tempfile::TempDir, Index) {
    let folder = tempfile::tempdir().unwrap();
    let metadata = NAMES.iter().map(|name| ((*name).to_owned(), Kind::Number)).collect();
    let settings = IndexSettings { metadata, ..IndexSettings::lexical_only() };
    let path = folder.path().join("i");
    let index = Index::create(&path, &settings, options()).unwrap();
    let mut writer = index.writer().unwrap();
    for (number, row) in rows.iter().enumerate() {
        let mut one = document(&format!("{number:02}"), "text");
        one.metadata.extend(several(row).map(|value| (NAMES[0].to_owned(), value)));
        one.metadata.insert(NAMES[1].to_owned(), Value::Number(100.0));
        writer.add(one).unwrap();
        if number == 3 {
            writer.commit().unwrap();
        }
    }
    // The rest is read from the log again.
    writer.sync().unwrap();
    drop(writer);
    drop(index);
    let index = Index::open(&path, options()).unwrap();
    index.writer().unwrap().commit().unwrap();
    (folder, index)
}

type Fits = Box<dyn Fn(&[i32]) -> bool>;

/// Each expression, and what it means of the values of one document.
fn asked(low: i32, high: i32) -> Vec<(String, Fits)> {
    let name = NAMES[0];
    vec![
        (format!("{name} = {low}"), Box::new(move |row| row.contains(&low))),
        (format!("{name} != {low}"), Box::new(move |row| !row.is_empty() && !row.contains(&low))),
        (format!("{name} > {low}"), Box::new(move |row| row.iter().any(|one| *one > low))),
        (format!("{name}:*"), Box::new(|row| !row.is_empty())),
        (
            format!("{name} >= {low} < {high}"),
            Box::new(move |row| row.iter().any(|one| low <= *one && *one < high)),
        ),
        (
            format!("{name} >= {low} AND {name} < {high}"),
            Box::new(move |row| row.iter().any(|one| low <= *one) && row.iter().any(|one| *one < high)),
        ),
        (format!("{} = 100", NAMES[1]), Box::new(|_| true)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_of_several_values_has_to_fit(
        rows in prop::collection::vec(prop::collection::vec(-2..6_i32, 0..4), 1..9),
        bounds in prop::collection::vec((-2..6_i32, -2..6_i32), 4),
    ) {
        let (_folder, index) = indexed(&rows);
        let searcher = index.searcher();
        for (low, high) in bounds {
            for (expression, fits) in asked(low, high) {
                let clause = Clause::Filter(Filter::parse(&expression).unwrap());
                let found = searcher.structured(&clause, &[], 0, 100, None).unwrap();
                let got: BTreeSet<String> = found.hits.into_iter().map(|hit| hit.id).collect();
                let expected: BTreeSet<String> = (rows.iter().enumerate())
                    .filter(|(_, row)| fits(row))
                    .map(|(number, _)| format!("{number:02}"))
                    .collect();
                prop_assert_eq!(got, expected, "{} over {:?}", expression, rows);
            }
        }
        // By the largest downwards, by the smallest upwards; documents without a value last.
        for ascending in [true, false] {
            let best = |row: &Vec<i32>| if ascending { row.iter().min().copied() } else { row.iter().max().map(|one| -one) };
            let order = [Order::Metadata { name: NAMES[0].to_owned(), ascending, missing_first: false }];
            let found = searcher.structured(&Clause::All, &order, 0, 100, None).unwrap();
            let mut expected: Vec<(bool, Option<i32>, String)> = (rows.iter().enumerate())
                .map(|(number, row)| (row.is_empty(), best(row), format!("{number:02}")))
                .collect();
            expected.sort();
            let ids: Vec<String> = found.hits.into_iter().map(|hit| hit.id).collect();
            prop_assert_eq!(ids, expected.into_iter().map(|(_, _, id)| id).collect::<Vec<_>>());
        }
    }
}

#[test]
fn several_values_are_of_one_type() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::create(&folder.path().join("i"), &IndexSettings::lexical_only(), options()).unwrap();
    let mut writer = index.writer().unwrap();
    let refused = |values: Vec<Value>| {
        let metadata = BTreeMap::from([("n".to_owned(), Value::Several(values))]);
        let mut another = index.writer().unwrap();
        another.add(orion_index::Document { metadata, ..document("d", "text") }).unwrap_err().to_string()
    };
    let mut one = document("kept", "text");
    let dates = Value::Several(vec![Value::Date(0), Value::Date(86_400)]);
    one.metadata.insert("at".to_owned(), dates.clone());
    writer.add(one).unwrap();
    writer.commit().unwrap();
    let stored = index.searcher().documents(&["kept"]).unwrap().pop().flatten().unwrap();
    assert_eq!(stored.metadata["at"], dates);
    drop(writer);
    let sound =
        "document `d`: expected several values of one type in metadata `n`, got none, or several types";
    assert_eq!(refused(Vec::new()), sound);
    assert_eq!(refused(vec![Value::Number(1.0), Value::Boolean(true)]), sound);
    assert_eq!(refused(vec![Value::Several(vec![Value::Number(1.0)])]), sound);
    assert_eq!(
        refused(vec![Value::Number(1.0), Value::Number(f64::NAN)]),
        "document `d`: expected a finite number in metadata `n`, got NaN or infinity"
    );
}
