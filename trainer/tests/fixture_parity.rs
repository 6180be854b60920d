//! The differentiable model against golden numbers of the reference implementation (`lfm2-tiny/training.json`): loss,
//! the gradient norm of every tensor, and five AdamW steps.

mod common;

use orion_policy::Checkpoint;
use orion_trainer::data::{Example, Padded};
use orion_trainer::model::Lfm2;
use orion_trainer::optim::{AdamW, AdamWSettings, Gradients};
use serde_json::Value;

struct Golden {
    model: Lfm2,
    batch: Padded,
    expected: Value,
}

fn golden() -> Option<Golden> {
    let folder = common::shared("fixtures/lfm2-tiny")?;
    let text = std::fs::read_to_string(folder.join("training.json")).unwrap();
    let expected: Value = serde_json::from_str::<Value>(&text).unwrap()["sft"].take();
    let rows = |name: &str| -> Vec<Vec<i64>> { serde_json::from_value(expected[name].clone()).unwrap() };
    let examples: Vec<Example> = rows("input_ids")
        .into_iter()
        .zip(rows("labels"))
        .map(|(ids, labels)| Example {
            tokens: ids.iter().map(|id| u32::try_from(*id).unwrap()).collect(),
            learn: labels.iter().map(|label| *label != -100).collect(),
        })
        .collect();
    let batch = Padded::new(&examples.iter().collect::<Vec<_>>(), 0);
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let model = Lfm2::from_weights(checkpoint.config().clone(), checkpoint.weights().unwrap()).unwrap();
    Some(Golden { model, batch, expected })
}

fn loss_and_gradients(model: &Lfm2, batch: &Padded) -> (f64, Gradients) {
    let losses = model.token_losses(&batch.input, &batch.wanted).unwrap();
    let loss = (losses.sum_all().unwrap() / batch.wanted.len() as f64).unwrap();
    let mut gradients = Gradients::default();
    gradients.add(&loss.backward().unwrap(), model.variables()).unwrap();
    (f64::from(loss.to_scalar::<f32>().unwrap()), gradients)
}

fn assert_close(what: &str, got: f64, expected: f64, relative: f64) {
    assert!((got - expected).abs() <= relative * expected.abs(), "{what}: got {got}, expected {expected}");
}

#[test]
fn loss_and_every_gradient_norm_match_the_reference() {
    let Some(Golden { model, batch, expected }) = golden() else { return };
    let (loss, gradients) = loss_and_gradients(&model, &batch);
    assert_close("loss", loss, expected["value"].as_f64().unwrap(), 1e-6);
    let norms = gradients.norms();
    let golden_norms = expected["grad_norm_per_parameter"].as_object().unwrap();
    assert_eq!(norms.len(), golden_norms.len());
    for (name, norm) in golden_norms {
        assert_close(name, norms[name.as_str()], norm.as_f64().unwrap(), 2e-5);
    }
    assert_close("total", gradients.total_norm(), expected["grad_norm_total"].as_f64().unwrap(), 1e-5);
}

#[test]
fn five_clipped_steps_match_the_reference() {
    let Some(Golden { model, batch, expected }) = golden() else { return };
    let mut optimiser = AdamW::new(AdamWSettings::default());
    for step in 0..5 {
        let (_, mut gradients) = loss_and_gradients(&model, &batch);
        gradients.clip(1.0);
        optimiser.update(model.variables(), &gradients, 1e-3).unwrap();
        let (loss, _) = loss_and_gradients(&model, &batch);
        let golden_loss = expected["loss_after_each_of_5_steps"][step].as_f64().unwrap();
        assert_close(&format!("loss after step {}", step + 1), loss, golden_loss, 1e-4);
    }
}

#[test]
fn every_variable_gets_a_gradient_that_is_not_zero() {
    let Some(Golden { model, batch, .. }) = golden() else { return };
    let (_, gradients) = loss_and_gradients(&model, &batch);
    assert_eq!(gradients.norms().len(), model.config().tensors().len());
    for (name, norm) in gradients.norms() {
        assert!(norm > 0.0, "{name}");
    }
}

#[test]
fn padding_changes_no_loss() {
    let Some(Golden { model, batch, .. }) = golden() else { return };
    let time = batch.input.time;
    let tokens: Vec<u32> = batch.input.tokens[..time].to_vec();
    let learn = vec![true; time];
    let short = Example { tokens: tokens[..time / 2].to_vec(), learn: learn[..time / 2].to_vec() };
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
