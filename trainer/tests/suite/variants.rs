//! Variants of supervised training, and merging what they made: formats and their masks through to serving, curriculum
//! order, filters, and the recipes of the soup against their formulas.

use orion_policy::{
    FormatKind, Policy, PolicyOptions, Sampling, Segment, Source, Tensor, TrajectoryFormat, Weights,
    tiny_config, tiny_policy,
};
use orion_trainer::checkpoint::load_model;
use orion_trainer::data::{Example, Part, Piece, Record, SearchQuery, Snippet, TurnNote};
use orion_trainer::export::{self, Numbers};
use orion_trainer::sft::{self, Job, SftSettings};
use orion_trainer::soup::{Recipe, exponential_weights, merge};
use orion_trainer::variants::{LESSONS, Order, TrainedFormat, VariantArguments};
use orion_trainer::{nano, preview};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::Path;

fn record(number: usize, archetype: Option<&str>) -> Record {
    let issued = SearchQuery { query: "lamp keeper".into(), retriever: Some("dense".into()) };
    Record {
        id: format!("r{number}"),
        set: if number.is_multiple_of(2) { "even".into() } else { "odd".into() },
        query_id: number.to_string(),
        part: if number == 0 { Part::HeldOut } else { Part::Train },
        archetype: archetype.map(str::to_owned),
        segments: vec![
            Piece::UserQuery("who kept it".into()),
            Piece::Think("ask".into()),
            Piece::SearchQuery(issued),
            Piece::TopKResponse(vec![Snippet { title: "Lamp".into(), text: "<think> no".into() }]),
            Piece::Think("found".into()),
        ],
        turns: vec![TurnNote {
            rule: format!("rule-{}", number % 3),
            rank: None,
            shown: false,
            parent: None,
        }],
    }
}

/// A future that is polled in place; the policy's own thread does the work.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::yield_now(),
        }
    }
}

/// Trains the tiny policy for two steps in a format and gives the preview of its mask; the served result is checked.
fn trained_in(format: Option<TrainedFormat>, folder: &Path) -> (FormatKind, String) {
    let start = folder.join("start");
    tiny_policy(&start, 5).unwrap();
    let model = load_model(&start).unwrap();
    let variant = VariantArguments { format, ..VariantArguments::default() };
    let own = variant.format(&start, model.config()).unwrap();
    let records: Vec<Record> = (0..6).map(|number| record(number, None)).collect();
    let train = nano::encode(&records, Part::Train, &own).unwrap();
    let mask = preview::mask(&train[0], own.tokenizer(), false);
    let settings = SftSettings { steps: Some(2), ..SftSettings::default() };
    let run = folder.join("run");
    let job = Job {
        train: &train,
        held_out: &[],
        settings: &settings,
        pad: 0,
        lessons: None,
        run: &run,
        resume: false,
        show: false,
    };
    let (model, _) = sft::run(model, job).unwrap();
    let out = folder.join("final");
    let numbers = orion_policy::NumberFormat::F32;
    nano::export(&model, &start.join("tokenizer.json"), own.spec(), &out, numbers).unwrap();
    // What serves the folder obeys the format that it was trained in.
    let policy = Policy::load(&Source::Folder(out), &PolicyOptions::default()).unwrap();
    let kind = policy.format().spec().format;
    let sampling = Sampling {
        candidates: 2,
        temperature: 1.0,
        top_p: 1.0,
        max_think_tokens: 4,
        max_query_tokens: 4,
        seed: 1,
    };
    let (candidates, tokens) = wait(async {
        let session = policy.session();
        let steps = vec![(None, vec![Segment::UserQuery("who kept it".into())])];
        let node = session.extend(steps).await.unwrap()[0];
        let candidates = session.propose(vec![node], sampling).await.unwrap().remove(0);
        let tokens = session.tokens(candidates[0].node).await.unwrap();
        (candidates, tokens)
    });
    let special = |name: &str| policy.format().tokenizer().special(name).unwrap();
    let holds = |name: &str| tokens.contains(&special(name));
    for candidate in &candidates {
        assert!(!candidate.query.is_empty() && candidate.retriever.is_some());
        assert!(candidate.think.is_empty() || kind != FormatKind::NoThink, "{candidate:?}");
    }
    assert_eq!(holds("<think>"), kind == FormatKind::Full);
    assert_eq!(holds("<search_query>"), kind != FormatKind::NoMarker);
    (kind, mask)
}

#[test]
fn each_format_has_its_mask_and_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let of = |format, name: &str| trained_in(format, &folder.path().join(name));
    let (kind, mask) = of(None, "own");
    assert_eq!(kind, FormatKind::Full);
    let full = "<bos><user_query>who kept it</user_query><think>[ask</think>]<search_query>[<dense>lamp \
                keeper</search_query>]<top_k_response>1. Lamp: <think> no</top_k_response><think>[found</think>]";
    assert_eq!(mask, full);
    assert_eq!(of(Some(TrainedFormat::Full), "full"), (FormatKind::Full, full.to_owned()));
    let no_think = "<bos><user_query>who kept it</user_query><search_query>[<dense>lamp \
                    keeper</search_query>]<top_k_response>1. Lamp: <think> no</top_k_response>";
    assert_eq!(of(Some(TrainedFormat::NoThink), "no-think"), (FormatKind::NoThink, no_think.to_owned()));
    let no_marker = "<bos>who kept it\n[ask\n<dense>lamp keeper\n]1. Lamp: <think> no\n[found\n]";
    assert_eq!(of(Some(TrainedFormat::NoMarker), "no-marker"), (FormatKind::NoMarker, no_marker.to_owned()));
}

#[test]
fn every_format_works_with_a_vocabulary_that_is_learned_here() {
    let words = "who kept the lamp at oskhaven ask for keeper breakwater long 1 2 : . \n";
    let json = orion_trainer::tokenizer::train((0..4).map(|_| words.to_owned()), 290).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), json).unwrap();
    std::fs::write(
        folder.path().join("orion.json"),
        r#"{ "version": 1, "format": "full", "retriever_choice": true }"#,
    )
    .unwrap();
    let config = orion_policy::Config { vocabulary_size: 512, ..tiny_config() };
    for format in [TrainedFormat::Full, TrainedFormat::NoThink, TrainedFormat::NoMarker] {
        let variant = VariantArguments { format: Some(format), ..VariantArguments::default() };
        let own = variant.format(folder.path(), &config).unwrap();
        assert_eq!(own.spec().format, format.into());
        let span = own.encode_trajectory(&record(1, None).policy_segments().unwrap());
        assert!(span.learn.contains(&true));
    }
}

fn names(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

#[test]
fn records_are_chosen_by_archetype_set_and_rule() {
    let records: Vec<Record> =
        (0..6).map(|number| record(number, (number > 1).then_some(LESSONS[number % 3]))).collect();
    let choose = |change: &dyn Fn(&mut VariantArguments)| {
        let mut variant = VariantArguments::default();
        change(&mut variant);
        variant.select(records.clone())
    };
    assert_eq!(names(&choose(&|_| ()).unwrap()).len(), 6);
    assert_eq!(names(&choose(&|v| v.archetype = vec![LESSONS[2].into()]).unwrap()), ["r2", "r5"]);
    assert_eq!(names(&choose(&|v| v.set = vec!["odd".into()]).unwrap()), ["r1", "r3", "r5"]);
    assert_eq!(names(&choose(&|v| v.rule = vec!["rule-0".into(), "rule-1".into()]).unwrap()).len(), 4);
    assert!(choose(&|v| v.archetype = vec!["unheard-of".into()]).is_err());
    assert!(VariantArguments::default().select(Vec::new()).is_err());
}

#[test]
fn a_curriculum_teaches_lesson_after_lesson() {
    let order = [LESSONS[2], LESSONS[0], LESSONS[1]];
    let records: Vec<Record> = (1..31).map(|number| record(number, Some(LESSONS[number % 3]))).collect();
    let curriculum = VariantArguments { order: Order::Curriculum, ..VariantArguments::default() };
    let lessons = curriculum.lessons_of(records.iter()).unwrap().unwrap();
    assert_eq!(lessons[..3], [1, 2, 0]);
    let own = VariantArguments { lessons: order.map(str::to_owned).to_vec(), ..curriculum.clone() };
    assert_eq!(own.lessons_of(records.iter()).unwrap().unwrap()[..3], [2, 0, 1]);
    assert!(VariantArguments::default().lessons_of(records.iter()).unwrap().is_none());
    let nameless = [record(1, None)];
    assert!(curriculum.lessons_of(nameless.iter()).is_err());

    // Two passes over each lesson, one after the other; every example twice.
    let lengths: Vec<usize> = (0..30).map(|number| 5 + number % 7).collect();
    let settings = SftSettings { epochs: 2, micro_tokens: 30, ..SftSettings::default() };
    let plan: Vec<usize> = sft::plan(&lengths, Some(&lessons), &settings).unwrap().concat();
    let met: Vec<usize> = plan.iter().map(|place| lessons[*place]).collect();
    assert!(met.is_sorted());
    let mut counts = vec![0; 30];
    plan.iter().for_each(|place| counts[*place] += 1);
    assert_eq!(counts, vec![2; 30]);
    let random: Vec<usize> = sft::plan(&lengths, None, &settings).unwrap().concat();
    assert!(!random.iter().map(|place| lessons[*place]).is_sorted());
    assert!(sft::plan(&lengths, Some(&lessons[1..]), &settings).is_err());
}

/// A model of two tensors, small whole numbers among its weights, so that ties and zeros occur.
fn model(seed: u64) -> Weights {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tensor = |shape: Vec<usize>| {
        let data = (0..shape.iter().product()).map(|_| rng.random_range(-4..5) as f32 / 4.0).collect();
        Tensor { shape, data }
    };
    let tensors = [("a".to_owned(), tensor(vec![3, 4])), ("b".to_owned(), tensor(vec![5]))];
    Weights { tensors: BTreeMap::from(tensors) }
}

fn values(weights: &Weights) -> Vec<f64> {
    weights.tensors.values().flat_map(|tensor| tensor.data.iter().map(|value| f64::from(*value))).collect()
}

fn assert_near(got: &Weights, expected: &[f64]) {
    for (got, expected) in values(got).iter().zip(expected) {
        assert!((got - expected).abs() < 1e-6, "{got} {expected}");
    }
}

#[test]
fn a_soup_of_equal_models_is_the_model() {
    for seed in 0..32 {
        let own = model(seed);
        let three = [own.clone(), own.clone(), own.clone()];
        let linear = Recipe::Linear { weights: exponential_weights(3, 1.7).unwrap() };
        assert_near(&merge(&three, None, &linear).unwrap(), &values(&own));
        assert_near(&merge(&three[..2], None, &Recipe::Slerp { share: 0.3 }).unwrap(), &values(&own));
        let ties = Recipe::Ties { density: 1.0, scale: 1.0 };
        assert_near(&merge(&three, Some(&model(seed + 100)), &ties).unwrap(), &values(&own));
    }
}

#[test]
fn linear_and_exponential_are_weighted_means() {
    for seed in 0..32 {
        let models: Vec<Weights> = (0..4).map(|number| model(seed * 4 + number)).collect();
        let weights = vec![1.0, 0.0, 2.5, 0.5];
        let got = merge(&models, None, &Recipe::Linear { weights: weights.clone() }).unwrap();
        let all: Vec<Vec<f64>> = models.iter().map(values).collect();
        let expected: Vec<f64> = (0..all[0].len())
            .map(|place| (0..4).map(|number| weights[number] * all[number][place]).sum::<f64>() / 4.0)
            .collect();
        assert_near(&got, &expected);
    }
    let weights = exponential_weights(4, 2.0).unwrap();
    for (got, expected) in weights.iter().zip([1.0, 2.0, 4.0, 8.0]) {
        assert!((got - expected / 15.0).abs() < 1e-12);
    }
    // A growth that would overflow as a plain power.
    let steep = exponential_weights(2000, 3.0).unwrap();
    assert!((steep.iter().sum::<f64>() - 1.0).abs() < 1e-9 && steep[1999] > 0.66);
    assert!(exponential_weights(3, 0.0).is_err());
}

#[test]
fn slerp_goes_along_the_circle() {
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    for seed in 0..32 {
        let pair = [model(seed), model(seed + 50)];
        assert_near(&merge(&pair, None, &Recipe::Slerp { share: 0.0 }).unwrap(), &values(&pair[0]));
        assert_near(&merge(&pair, None, &Recipe::Slerp { share: 1.0 }).unwrap(), &values(&pair[1]));
    }
    // Unit vectors stay unit vectors, and half-way is half the angle.
    let one = |data: Vec<f32>| Weights {
        tensors: BTreeMap::from([("a".to_owned(), Tensor { shape: vec![data.len()], data })]),
    };
    let pair = [one(vec![1.0, 0.0, 0.0]), one(vec![0.0, 1.0, 0.0])];
    for (share, angle) in [(0.25, 22.5f64), (0.5, 45.0), (0.9, 81.0)] {
        let got = values(&merge(&pair, None, &Recipe::Slerp { share }).unwrap());
        assert!((norm(&got) - 1.0).abs() < 1e-6);
        assert!((got[0] - angle.to_radians().cos()).abs() < 1e-6);
    }
    // Zero and opposite vectors have no angle to follow: the chord, and nothing that is no number.
    for other in [vec![0.0; 3], vec![-1.0, 0.0, 0.0]] {
        let pair = [one(vec![1.0, 0.0, 0.0]), one(other.clone())];
        let got = values(&merge(&pair, None, &Recipe::Slerp { share: 0.25 }).unwrap());
        assert!((got[0] - (0.75 + 0.25 * f64::from(other[0]))).abs() < 1e-6);
    }
}

/// TIES an entry at a time, by counting how many are larger instead of sorting.
fn ties_twin(models: &[Vec<f64>], base: &[f64], density: f64, scale: f64) -> Vec<f64> {
    let kept = (density * base.len() as f64).ceil() as usize;
    (0..base.len())
        .map(|place| {
            let differences: Vec<f64> = models
                .iter()
                .map(|own| {
                    let size = |other: usize| (own[other] - base[other]).abs();
                    let before = (0..base.len())
                        .filter(|other| {
                            size(place) < size(*other) || (size(*other) == size(place) && *other < place)
                        })
                        .count();
                    if before < kept { own[place] - base[place] } else { 0.0 }
                })
                .collect();
            let sum: f64 = differences.iter().sum();
            let sign = if sum == 0.0 { 0.0 } else { sum.signum() };
            let agreeing: Vec<f64> = differences.into_iter().filter(|d| *d * sign > 0.0).collect();
            if agreeing.is_empty() {
                base[place]
            } else {
                base[place] + scale * agreeing.iter().sum::<f64>() / agreeing.len() as f64
            }
        })
        .collect()
}

#[test]
fn ties_equals_its_twin() {
    for seed in 0..64 {
        let models: Vec<Weights> = (0..3).map(|number| model(seed * 3 + number)).collect();
        let base = model(seed + 1000);
        for (density, scale) in [(0.2, 1.0), (0.5, 0.7), (1.0, 1.0)] {
            let got = merge(&models, Some(&base), &Recipe::Ties { density, scale }).unwrap();
            // The twin trims a tensor at a time, as the published procedure does.
            for (name, tensor) in &got.tensors {
                let of = |weights: &Weights| -> Vec<f64> {
                    weights.tensors[name].data.iter().map(|value| f64::from(*value)).collect()
                };
                let own: Vec<Vec<f64>> = models.iter().map(of).collect();
                let expected = ties_twin(&own, &of(&base), density, scale);
                for (got, expected) in tensor.data.iter().zip(expected) {
                    assert!((f64::from(*got) - expected).abs() < 1e-6);
                }
            }
        }
    }
}

#[test]
fn models_that_do_not_belong_together_are_refused() {
    let even = Recipe::Linear { weights: vec![1.0, 1.0] };
    let merged = |second: Weights, recipe: &Recipe| merge(&[model(1), second], None, recipe);
    assert!(merged(model(2), &even).is_ok());
    let mut odd_shape = model(2);
    odd_shape.tensors.insert("a".into(), Tensor { shape: vec![4, 3], data: vec![0.0; 12] });
    let mut fewer = model(2);
    fewer.tensors.remove("b");
    let mut more = model(2);
    more.tensors.insert("c".into(), Tensor { shape: vec![1], data: vec![0.0] });
    for other in [odd_shape, fewer, more] {
        assert!(merged(other, &even).unwrap_err().to_string().contains("model 2"));
    }
    let mut endless = model(2);
    endless.tensors.get_mut("b").unwrap().data[0] = f32::INFINITY;
    assert!(merged(endless, &even).is_err());
    assert!(merge(&[model(1)], None, &Recipe::Linear { weights: vec![1.0] }).is_err());
    for weights in [vec![1.0], vec![0.0, 0.0], vec![1.0, -1.0], vec![1.0, f64::NAN]] {
        assert!(merged(model(2), &Recipe::Linear { weights }).is_err());
    }
    assert!(merged(model(2), &Recipe::Slerp { share: 1.5 }).is_err());
    assert!(merged(model(2), &Recipe::Ties { density: 0.5, scale: 1.0 }).is_err(), "no base");
    let three = [model(1), model(2), model(3)];
    assert!(merge(&three, None, &Recipe::Slerp { share: 0.5 }).is_err());
    assert!(merge(&three, Some(&model(4)), &Recipe::Ties { density: 0.0, scale: 1.0 }).is_err());
}

#[test]
fn a_masked_example_of_each_format_learns_nothing_of_results() {
    let folder = tempfile::tempdir().unwrap();
    tiny_policy(folder.path(), 5).unwrap();
    for format in [TrainedFormat::Full, TrainedFormat::NoThink, TrainedFormat::NoMarker] {
        let variant = VariantArguments { format: Some(format), ..VariantArguments::default() };
        let own: TrajectoryFormat = variant.format(folder.path(), &tiny_config()).unwrap();
        let learned = |example: &Example| -> Vec<u32> {
            example
                .tokens
                .iter()
                .zip(&example.learn)
                .filter(|(_, learn)| **learn)
                .map(|(token, _)| *token)
                .collect()
        };
        let mut other = record(1, None);
        other.segments[3] = Piece::TopKResponse(vec![Snippet { title: "Bees".into(), text: "honey".into() }]);
        let examples = nano::encode(&[record(1, None), other], Part::Train, &own).unwrap();
        assert_ne!(examples[0].tokens, examples[1].tokens);
        assert_eq!(learned(&examples[0]), learned(&examples[1]));
    }
}

#[test]
fn a_gguf_reads_back_with_the_names_that_llama_cpp_knows() {
    use candle_core::quantized::gguf_file::{Content, Value};
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("tiny");
    tiny_policy(&policy, 5).unwrap();
    let weights = load_model(&policy).unwrap().to_weights().unwrap();
    for (numbers, tolerance) in [(Numbers::F32, 0.0), (Numbers::F16, 1e-4), (Numbers::Q8_0, 1e-3)] {
        let path = folder.path().join("out.gguf");
        assert!(!export::gguf(&policy, &path, numbers).unwrap());
        let mut file = std::fs::File::open(&path).unwrap();
        let content = Content::read(&mut file).unwrap();
        assert_eq!(content.tensor_infos.len(), weights.tensors.len());
        let mut near = |own: &str, name: &str| {
            let tensor = content.tensor(&mut file, own, &candle_core::Device::Cpu).unwrap();
            let tensor = tensor.dequantize(&candle_core::Device::Cpu).unwrap();
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values.len(), weights.tensors[name].data.len());
            for (got, expected) in values.iter().zip(&weights.tensors[name].data) {
                assert!((got - expected).abs() <= tolerance, "{own}: {got} {expected}");
            }
        };
        near("token_embd.weight", "model.embed_tokens.weight");
        near("token_embd_norm.weight", "model.embedding_norm.weight");
        near("blk.0.shortconv.conv.weight", "model.layers.0.conv.conv.weight");
        near("blk.0.shortconv.in_proj.weight", "model.layers.0.conv.in_proj.weight");
        near("blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight");
        near("blk.1.attn_output.weight", "model.layers.1.self_attn.out_proj.weight");
        near("blk.2.ffn_gate.weight", "model.layers.2.feed_forward.w1.weight");
        near("blk.2.ffn_down.weight", "model.layers.2.feed_forward.w2.weight");
        let heads = content.metadata["lfm2.attention.head_count_kv"].to_vec().unwrap();
        let heads: Vec<i32> = heads.iter().map(|value| value.to_i32().unwrap()).collect();
        assert_eq!(heads, [0, 2, 0]);
        let is =
            |name: &str, wanted: &str| matches!(&content.metadata[name], Value::String(own) if own == wanted);
        assert!(is("general.architecture", "lfm2") && is("orion.format", "full"));
        assert_eq!(content.metadata["tokenizer.ggml.tokens"].to_vec().unwrap().len(), 272);
    }
    assert!(
        export::gguf(&folder.path().join("nowhere"), &folder.path().join("x.gguf"), Numbers::F32).is_err()
    );
}
