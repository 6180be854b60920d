//! The differentiable model against golden numbers of the reference implementation (`lfm2-tiny/training.json`): losses,
//! the gradient norm of every tensor, five AdamW steps, and a GRPO update. The comparison is the one that
//! `orion-train check` makes; here it is also shown that it can fail.

use crate::common;
use orion_policy::Checkpoint;
use orion_trainer::check::{CheckReport, check, check_as, loss_and_gradients};
use orion_trainer::data::{Example, Padded};
use orion_trainer::model::Lfm2;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folder() -> Option<PathBuf> {
    common::shared("fixtures/lfm2-tiny")
}

fn golden(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("training.json")).unwrap()).unwrap()
}

fn check_value(folder: &Path, value: &Value) -> Result<CheckReport, orion_trainer::TrainError> {
    let own = tempfile::tempdir().unwrap();
    let path = own.path().join("golden.json");
    std::fs::write(&path, serde_json::to_vec(value).unwrap()).unwrap();
    check(folder, &path)
}

fn model(folder: &Path) -> Lfm2 {
    let checkpoint = Checkpoint::open(folder).unwrap();
    Lfm2::from_weights(checkpoint.config().clone(), checkpoint.weights().unwrap()).unwrap()
}

fn example(value: &Value) -> Example {
    let numbers = |name: &str| -> Vec<i64> { serde_json::from_value(value["sft"][name][0].clone()).unwrap() };
    Example {
        tokens: numbers("input_ids").into_iter().map(|id| u32::try_from(id).unwrap()).collect(),
        learn: numbers("labels").into_iter().map(|label| label != -100).collect(),
    }
}

#[test]
fn the_operations_of_other_devices_match_the_reference_too() {
    let Some(folder) = folder() else { return };
    let report = check_as(&folder, &folder.join("training.json"), &|model| Ok(model.composed())).unwrap();
    assert_eq!(report.quantities.len(), 11);
    report.verdict().unwrap();
}

#[test]
fn every_quantity_of_both_parts_matches_the_reference() {
    let Some(folder) = folder() else { return };
    let report = check(&folder, &folder.join("training.json")).unwrap();
    let names: Vec<&str> = report.quantities.iter().map(|quantity| quantity.quantity.as_str()).collect();
    assert_eq!(
        names,
        [
            "grpo advantages",
            "grpo policy log-probabilities",
            "grpo reference log-probabilities",
            "grpo divergence",
            "grpo loss",
            "grpo gradient norms",
            "grpo total norm",
            "sft loss",
            "sft gradient norms",
            "sft total norm",
            "sft losses after steps",
        ]
    );
    for quantity in &report.quantities {
        println!("{quantity:?}");
        assert!(quantity.ok, "{quantity:?}");
    }
    assert!(report.verdict().is_ok());
    assert_eq!(report.quantity("grpo policy log-probabilities").unwrap().compared, 40);
}

#[test]
fn each_wrong_number_is_found() {
    let Some(folder) = folder() else { return };
    let right = golden(&folder);
    let wrong = |pointer: &str, factor: f64, quantity: &str| {
        let mut value = right.clone();
        let number = value.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}"));
        *number = serde_json::json!(number.as_f64().unwrap() * factor);
        let report = check_value(&folder, &value).unwrap();
        let failed: Vec<&str> =
            report.quantities.iter().filter(|q| !q.ok).map(|q| q.quantity.as_str()).collect();
        assert_eq!(failed, [quantity], "{pointer}");
        assert_eq!(report.verdict().unwrap_err().exit_code(), 1);
    };
    wrong("/sft/value", 1.0001, "sft loss");
    wrong("/sft/grad_norm_per_parameter/model.layers.0.conv.conv.weight", 1.001, "sft gradient norms");
    wrong("/sft/loss_after_each_of_5_steps/4", 1.01, "sft losses after steps");
    wrong("/grpo/advantages/1", 1.001, "grpo advantages");
    wrong("/grpo/policy_logprobs/3/2", 1.0001, "grpo policy log-probabilities");
    wrong("/grpo/reference_logprobs/0/0", 1.0001, "grpo reference log-probabilities");
    wrong("/grpo/value", 1.1, "grpo loss");
    wrong("/grpo/mean_kl", 1.01, "grpo divergence");
    wrong("/grpo/grad_norm_total", 1.001, "grpo total norm");
}

#[test]
fn a_file_with_nothing_to_compare_fails() {
    let Some(folder) = folder() else { return };
    let right = golden(&folder);
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut value = right.clone();
        change(&mut value);
        let error = check_value(&folder, &value).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    };
    assert!(refused(&|value| *value = serde_json::json!({})).contains("neither"));
    refused(&|value| value["sft"]["loss_after_each_of_5_steps"] = serde_json::json!([]));
    refused(&|value| value["sft"]["labels"] = serde_json::json!([]));
    refused(&|value| value["sft"]["grad_norm_per_parameter"] = serde_json::json!({}));
    refused(&|value| value["grpo"]["rewards"] = serde_json::json!([]));
    refused(&|value| value["grpo"]["completion_lengths"][0] = serde_json::json!(100));
    refused(&|value| value["grpo"]["reference_model"] = serde_json::json!("another"));
}

#[test]
fn every_variable_gets_a_gradient_that_is_not_zero() {
    let Some(folder) = folder() else { return };
    let model = model(&folder);
    let batch = Padded::new(&[&example(&golden(&folder))], 0);
    let (_, gradients) = loss_and_gradients(&model, &batch).unwrap();
    assert_eq!(gradients.norms().len(), model.config().tensors().len());
    for (name, norm) in gradients.norms() {
        assert!(norm > 0.0, "{name}");
    }
}

#[test]
fn a_frozen_model_computes_the_same_and_keeps_nothing() {
    let Some(folder) = folder() else { return };
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let frozen =
        Lfm2::frozen_from_weights(checkpoint.config().clone(), checkpoint.weights().unwrap()).unwrap();
    let batch = Padded::new(&[&example(&golden(&folder))], 0);
    let [free, held] = [&model(&folder), &frozen].map(|model| {
        let losses = model.token_losses(&batch.input, &batch.wanted).unwrap();
        (losses.to_vec1::<f32>().unwrap(), losses.track_op())
    });
    assert_eq!(free.0, held.0);
    // No operation is recorded, so no activation outlives its use and there is nothing to make gradients of.
    assert!(free.1 && !held.1);
    assert!(frozen.variables().is_empty());
}

#[test]
fn padding_changes_no_loss() {
    let Some(folder) = folder() else { return };
    let model = model(&folder);
    let tokens = example(&golden(&folder)).tokens;
    let learn = vec![true; tokens.len()];
    let half = tokens.len() / 2;
    let short = Example { tokens: tokens[..half].to_vec(), learn: learn[..half].to_vec() };
    let long = Example { tokens, learn };
    let alone = Padded::new(&[&short], 0);
    let together = Padded::new(&[&short, &long], 0);
    let losses = |padded: &Padded| {
        model.token_losses(&padded.input, &padded.wanted).unwrap().to_vec1::<f32>().unwrap()
    };
    for (a, b) in losses(&alone).iter().zip(losses(&together)) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}
