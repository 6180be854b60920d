//! Low-rank adapters: the start is the model, adapters alone are trained, the merge computes the same, files read back,
//! and a resumed run equals an uninterrupted one.

use candle_core::Tensor;
use orion_policy::{Checkpoint, tiny_config, tiny_policy};
use orion_trainer::checkpoint::{self, load_model, load_start};
use orion_trainer::data::{Example, Padded};
use orion_trainer::model::{Lfm2, LoraArguments, LoraSettings};
use orion_trainer::optim::Gradients;
use orion_trainer::sft::{self, Job, SftSettings};
use std::path::Path;

fn settings() -> LoraSettings {
    LoraArguments { lora_rank: Some(3), ..LoraArguments::default() }.settings(7).unwrap()
}

fn examples() -> Vec<Example> {
    (0..12u32)
        .map(|number| {
            let length = 6 + (number as usize * 5) % 11;
            let tokens = (0..length as u32).map(|place| 3 + (number * 31 + place * place * 7) % 40).collect();
            Example { tokens, learn: (0..length).map(|place| place % 3 != 1).collect() }
        })
        .collect()
}

fn batch() -> Padded {
    Padded::new(&examples().iter().take(3).collect::<Vec<_>>(), 0)
}

fn losses(model: &Lfm2) -> Vec<f32> {
    let batch = batch();
    model.token_losses(&batch.input, &batch.wanted).unwrap().to_vec1().unwrap()
}

fn train(model: Lfm2, run: &Path, steps: u64, resume: bool) -> Lfm2 {
    let data = examples();
    let settings = SftSettings {
        micro_tokens: 40,
        epochs: 6,
        steps: Some(steps),
        checkpoint_every: 1,
        ..SftSettings::default()
    };
    let job = Job {
        train: &data,
        held_out: &[],
        settings: &settings,
        pad: 0,
        lessons: None,
        run,
        resume,
        show: false,
    };
    sft::run(model, job).unwrap().0
}

#[test]
fn an_adapted_model_begins_as_the_model_and_trains_adapters_alone() {
    let folder = tempfile::tempdir().unwrap();
    tiny_policy(folder.path(), 3).unwrap();
    let (plain, adapted) =
        (load_model(folder.path()).unwrap(), load_start(folder.path(), Some(&settings())).unwrap());
    for (plain, adapted) in losses(&plain).iter().zip(losses(&adapted)) {
        assert!((plain - adapted).abs() < 1e-6);
    }
    assert_eq!(plain.to_weights().unwrap(), adapted.to_weights().unwrap());
    let projections = adapted
        .config()
        .tensors()
        .iter()
        .filter(|(name, shape)| shape.len() == 2 && name.starts_with("model.layers."))
        .count();
    assert_eq!(adapted.variables().len(), 2 * projections);

    let batch = batch();
    let loss = adapted.token_losses(&batch.input, &batch.wanted).unwrap().sum_all().unwrap();
    let store = loss.backward().unwrap();
    let mut gradients = Gradients::default();
    gradients.add(&store, adapted.variables()).unwrap();
    // B is zero, so at first only B moves.
    for (name, norm) in gradients.norms() {
        assert_eq!(0.0 < norm, name.contains("lora_B"), "{name}");
    }
    // What is left in the store: a gradient for each adapter, and those of the first layer's input: embedded, normed,
    // and projected to three times the width. None is a weight's.
    let sizes: Vec<usize> =
        store.get_ids().filter_map(|id| store.get_id(*id)).map(Tensor::elem_count).collect();
    let adapters: usize = adapted.variables().values().map(|variable| variable.elem_count()).sum();
    let embedded = batch.input.tokens.len() * adapted.config().hidden_size;
    assert_eq!(sizes.len(), adapted.variables().len() + 3);
    assert_eq!(sizes.iter().sum::<usize>(), adapters + 5 * embedded);
}

#[test]
fn the_gradient_of_an_adapter_is_that_of_the_weight_it_stands_for() {
    let folder = tempfile::tempdir().unwrap();
    tiny_policy(folder.path(), 3).unwrap();
    let batch = batch();
    let gradient = |model: &Lfm2, name: &str| -> Tensor {
        let loss = model.token_losses(&batch.input, &batch.wanted).unwrap().sum_all().unwrap();
        loss.backward().unwrap().get(model.variables()[name].as_tensor()).unwrap().clone()
    };
    let (plain, adapted) =
        (load_model(folder.path()).unwrap(), load_start(folder.path(), Some(&settings())).unwrap());
    for module in
        ["model.layers.0.conv.in_proj", "model.layers.1.self_attn.k_proj", "model.layers.2.feed_forward.w2"]
    {
        let whole = gradient(&plain, &format!("{module}.weight"));
        let up = gradient(&adapted, &format!("{module}.lora_B.weight"));
        let down = adapted.variables()[&format!("{module}.lora_A.weight")].as_detached_tensor();
        // d loss / d B = (alpha / rank) d loss / d W A^T.
        let expected = (whole.matmul(&down.t().unwrap()).unwrap() * 2.0).unwrap();
        let apart = (up - &expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        let size = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(apart < 1e-4 * size, "{module}: {apart} of {size}");
    }
}

#[test]
fn merged_weights_compute_what_the_adapters_do_and_files_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let start = folder.path().join("start");
    tiny_policy(&start, 3).unwrap();
    let trained = train(load_start(&start, Some(&settings())).unwrap(), &folder.path().join("run"), 6, false);
    let base = Checkpoint::open(&start).unwrap().weights().unwrap();
    let merged = trained.to_weights().unwrap();
    assert_ne!(base, merged);
    // Norms, embedding and convolution taps have no adapters.
    for (name, tensor) in &base.tensors {
        let is_projection = tensor.shape.len() == 2 && name.starts_with("model.layers.");
        assert_eq!(tensor.data != merged.tensors[name].data, is_projection, "{name}");
    }
    let model = Lfm2::from_weights(tiny_config(), merged.clone()).unwrap();
    for (adapted, merged) in losses(&trained).iter().zip(losses(&model)) {
        assert!((adapted - merged).abs() < 1e-4, "{adapted} {merged}");
    }
    let adapter = folder.path().join("adapter");
    trained.save_adapters(&adapter, &settings(), "start").unwrap();
    let config = std::fs::read_to_string(adapter.join("adapter_config.json")).unwrap();
    assert!(config.contains("\"peft_type\": \"LORA\"") && config.contains("\"r\": 3"));
    let again = load_start(&start, Some(&settings())).unwrap();
    again.load_adapters(&adapter).unwrap();
    assert_eq!(again.to_weights().unwrap(), merged);
    // Another rank is another model.
    let wider = LoraSettings { rank: 4, ..settings() };
    assert!(load_start(&start, Some(&wider)).unwrap().load_adapters(&adapter).is_err());
}

#[test]
fn a_resumed_run_of_adapters_equals_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let start = folder.path().join("start");
    tiny_policy(&start, 3).unwrap();
    let fresh = || load_start(&start, Some(&settings())).unwrap();
    let whole = train(fresh(), &folder.path().join("whole"), 5, false).to_weights().unwrap();
    let cut = folder.path().join("cut");
    train(fresh(), &cut, 5, false);
    let (_, newest) = checkpoint::list(&cut).unwrap().pop().unwrap();
    std::fs::remove_dir_all(newest).unwrap();
    assert_eq!(train(fresh(), &cut, 5, true).to_weights().unwrap(), whole);
}

#[test]
fn adapters_that_fit_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    tiny_policy(folder.path(), 3).unwrap();
    let refused = |own: LoraSettings| load_start(folder.path(), Some(&own)).err().unwrap().to_string();
    assert!(refused(LoraSettings { rank: 0, ..settings() }).contains("rank"));
    assert!(refused(LoraSettings { alpha: f64::NAN, ..settings() }).contains("alpha"));
    let strange = LoraSettings { targets: vec!["q_proj".into(), "gate".into()], ..settings() };
    assert!(refused(strange).contains("`gate`"));
    assert!(refused(LoraSettings { targets: Vec::new(), ..settings() }).contains("none"));
}
