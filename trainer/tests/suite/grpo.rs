//! GRPO: advantages and masks against slow twins, the slope of the loss against differences, rollouts, collapse, and a
//! run that was killed at any step against one that was not. Over a tiny random policy and a tiny collection.

use crate::tiny;
use orion_policy::{Policy, PolicyOptions, Retriever, Source as PolicySource, Weights};
use orion_trainer::TrainError;
use orion_trainer::checkpoint::{self, load_frozen, load_model};
use orion_trainer::data::Part;
use orion_trainer::grpo::advantage::{DEVIATION_FLOOR, advantages};
use orion_trainer::grpo::collapse::{CollapseSettings, Monitor, Signals};
use orion_trainer::grpo::command::tasks;
use orion_trainer::grpo::grounds::Task;
use orion_trainer::grpo::loss::{Objective, TokenProbabilities, term};
use orion_trainer::grpo::rollout::{Group, roll_out, samples};
use orion_trainer::grpo::settings::{GrpoOverrides, GrpoSettings, LookUp, RolloutSettings, Similarity};
use orion_trainer::grpo::update::{Sample, gradients};
use orion_trainer::grpo::{Job, measure, run};
use orion_trainer::optim::{Decay, Schedule};
use orion_trainer::sft::{Workers, example_losses};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// Advantages as they are defined, a line for each word of the definition.
fn advantage_twin(rewards: &[f32]) -> Vec<f64> {
    let mut sum = 0.0f64;
    for reward in rewards {
        sum += f64::from(*reward);
    }
    let mean = sum / rewards.len() as f64;
    let mut squares = 0.0f64;
    for reward in rewards {
        squares += (f64::from(*reward) - mean) * (f64::from(*reward) - mean);
    }
    let population_deviation = (squares / rewards.len() as f64).sqrt();
    rewards
        .iter()
        .map(|reward| (f64::from(*reward) - mean) / (population_deviation + DEVIATION_FLOOR))
        .collect()
}

#[test]
fn advantages_equal_their_twin_and_keep_their_promises() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..256 {
        let count = rng.random_range(2..9);
        // A small space, so that ties are common.
        let rewards: Vec<f32> = (0..count).map(|_| rng.random_range(0..5) as f32 / 4.0).collect();
        let got = advantages(&rewards).unwrap();
        for (got, expected) in got.iter().zip(advantage_twin(&rewards)) {
            assert!((got - expected).abs() < 1e-9, "{rewards:?}");
        }
        assert!(got.iter().sum::<f64>().abs() < 1e-9);
        let shifted: Vec<f32> = rewards.iter().map(|reward| reward - 0.5).collect();
        for (got, shifted) in got.iter().zip(advantages(&shifted).unwrap()) {
            assert!((got - shifted).abs() < 1e-9);
        }
        if rewards.iter().all(|reward| *reward == rewards[0]) {
            assert!(got.iter().all(|advantage| *advantage == 0.0));
        }
    }
    for wrong in [&[][..], &[0.5], &[0.5, f32::NAN]] {
        assert!(advantages(wrong).is_err());
    }
}

#[test]
fn the_slope_of_a_term_is_its_derivative() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let objective = Objective { clip: 0.2, beta: 0.3 };
    let (mut seen_clipped, mut seen_free) = (0, 0);
    for _ in 0..512 {
        let old = rng.random_range(-4.0..-0.1);
        let token = TokenProbabilities {
            policy: old + rng.random_range(-0.6..0.6),
            old,
            reference: old + rng.random_range(-0.6..0.6),
        };
        let advantage = rng.random_range(-2.0..2.0);
        let at = |shift: f64| {
            term(TokenProbabilities { policy: token.policy + shift, ..token }, advantage, &objective)
        };
        let here = at(0.0);
        let (before, after) = (at(-1e-6), at(1e-6));
        if before.clipped != after.clipped {
            continue;
        }
        let difference = (after.value - before.value) / 2e-6;
        assert!((here.slope - difference).abs() < 1e-6, "{token:?} {advantage}: {here:?} {difference}");
        assert!(0.0 <= here.divergence);
        // Clipping takes away what a large ratio could gain, never what it should lose.
        let ratio = (token.policy - token.old).exp();
        let is_beyond = (1.2 < ratio && 0.0 < advantage) || (ratio < 0.8 && advantage < 0.0);
        assert_eq!(here.clipped, is_beyond);
        if is_beyond { seen_clipped += 1 } else { seen_free += 1 }
    }
    assert!(50 < seen_clipped && 50 < seen_free);
    let same = term(TokenProbabilities { policy: -1.0, old: -1.0, reference: -1.0 }, 0.7, &objective);
    assert_eq!((same.value, same.slope, same.divergence), (-0.7, -0.7, 0.0));
}

fn rollout_settings() -> RolloutSettings {
    RolloutSettings {
        group: 3,
        horizon: 3,
        max_think_tokens: 5,
        max_query_tokens: 6,
        stop_at_rank: 0,
        ..RolloutSettings::default()
    }
}

fn play(folder: &Path, settings: &RolloutSettings, seed: u64) -> (Policy, Vec<Task>, Vec<Group>) {
    let policy = Policy::load(&PolicySource::Folder(folder.to_owned()), &PolicyOptions::default()).unwrap();
    let train = tasks(0, &tiny::source(), Part::Train);
    let groups = roll_out(&policy, tiny::grounds(), &train[..3], settings, seed).unwrap();
    (policy, train, groups)
}

#[test]
fn the_best_of_each_group_leads_the_next_turn() {
    let folder = tempfile::tempdir().unwrap();
    orion_policy::tiny_policy(folder.path(), 3).unwrap();
    let settings = rollout_settings();
    let (_, _, groups) = play(folder.path(), &settings, 9);
    assert_eq!(groups.len(), 9);
    for group in &groups {
        assert_eq!(group.members.len(), 3);
        let best = group.members.iter().map(|member| member.reward).fold(f32::MIN, f32::max);
        assert_eq!(group.members.iter().position(|member| member.reward == best), Some(group.best));
        let next = groups.iter().find(|next| next.task == group.task && next.turn == group.turn + 1);
        if let Some(next) = next {
            let lead: Vec<u32> = group.members[group.best].trace.iter().map(|token| token.id).collect();
            let start = group.context.len();
            assert_eq!(next.context[..start], group.context);
            assert_eq!(next.context[start..start + lead.len()], lead);
            assert!(start + lead.len() < next.context.len(), "results follow");
        }
    }
    assert_eq!(play(folder.path(), &settings, 9).2, groups);
    assert_ne!(play(folder.path(), &settings, 10).2, groups);
    // Every document is within the first of all: episodes end after a turn.
    let documents = tiny::grounds().documents(&tasks(0, &tiny::source(), Part::Train)[0]);
    let short = RolloutSettings { stop_at_rank: documents, ..settings };
    assert_eq!(play(folder.path(), &short, 9).2.len(), 3);
}

#[test]
fn rewards_come_from_the_judged_document() {
    let source = tiny::source();
    let train = tasks(0, &source, Part::Train);
    let task = &train[0];
    let target = source.documents.iter().find(|document| task.targets.contains(&document.id)).unwrap();
    let grounds = tiny::grounds();
    let queries = [(task, target.text.as_str(), None), (task, "zzz unheard of", Some(Retriever::Lexical))];
    for look_up in [LookUp::Dense, LookUp::Chosen] {
        let settings = RolloutSettings { look_up, ..rollout_settings() };
        let found = grounds.look_up(&queries, &settings).unwrap();
        assert_eq!(found[0].rank, 1, "{look_up:?}");
        assert!(0.99 < found[0].cosine);
        assert!(!found[0].snippets.is_empty());
        let rewards = grounds.rewards(&found, &settings).unwrap();
        assert!(0.99 < rewards[0] && rewards[1] < rewards[0], "{rewards:?}");
    }
    // A lexical ranking without the target counts as the last rank.
    let settings = RolloutSettings { look_up: LookUp::Chosen, ..rollout_settings() };
    assert_eq!(grounds.look_up(&queries, &settings).unwrap()[1].rank, grounds.documents(task));
    // Beside the user's own query, a lexical look-up that finds nothing leaves the plain ranking; a good one moves it up.
    let beside = RolloutSettings { look_up: LookUp::Beside, ..rollout_settings() };
    let own = (task, task.text.as_str(), Some(Retriever::Hybrid));
    let plain =
        grounds.look_up(&[own], &RolloutSettings { look_up: LookUp::Chosen, ..beside.clone() }).unwrap();
    let added = grounds.look_up(&[queries[0], queries[1], own], &beside).unwrap();
    assert_eq!((added[1].rank, added[2].rank), (plain[0].rank, plain[0].rank));
    assert_eq!(added[0].rank, 1);
    assert!(added[1].snippets.is_empty(), "the policy reads what its own query found");
    // The first hit's cosine does not ask whether it is the right one.
    let naive = RolloutSettings { similarity: Similarity::FirstHit, ..rollout_settings() };
    let other = source.documents.iter().find(|document| !task.targets.contains(&document.id)).unwrap();
    let wrong = [(task, other.text.as_str(), None)];
    assert!(0.99 < grounds.look_up(&wrong, &naive).unwrap()[0].cosine);
    assert!(grounds.look_up(&wrong, &rollout_settings()).unwrap()[0].cosine < 0.99);
}

/// The mask by the format's own words: what a trajectory of the group's text learns, where nothing was forced.
#[test]
fn sampled_tokens_are_learned_and_forced_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    orion_policy::tiny_policy(folder.path(), 4).unwrap();
    let (policy, _, groups) = play(folder.path(), &rollout_settings(), 2);
    let special = |name: &str| policy.format().tokenizer().special(name).unwrap();
    let starts = [special("<think>"), special("<search_query>")];
    let ends = [special("</think>"), special("</search_query>")];
    let choices = Retriever::ALL.map(|retriever| special(retriever.marker()));
    let (all, without_choice) = (samples(&groups, &[]).unwrap(), samples(&groups, &choices).unwrap());
    let members: Vec<_> =
        groups.iter().flat_map(|group| group.members.iter().map(move |m| (group, m))).collect();
    assert_eq!(all.len(), members.len());
    let mut forced_ends = 0;
    for (((sample, served), (bare, _)), (group, member)) in all.iter().zip(&without_choice).zip(members) {
        let tokens = &sample.example.tokens;
        assert_eq!(tokens[..group.context.len()], group.context);
        // Twin: walk the tokens with the caps in hand.
        let mut twin = vec![false; group.context.len()];
        let (mut content, mut cap) = (0, 0);
        for token in &tokens[group.context.len()..] {
            if starts.contains(token) {
                (content, cap) = (0, if *token == starts[0] { 5 } else { 6 });
                twin.push(false);
            } else if ends.contains(token) {
                forced_ends += usize::from(content == cap);
                twin.push(content < cap);
            } else {
                content += usize::from(!choices.contains(token));
                twin.push(true);
            }
        }
        assert_eq!(sample.example.learn, twin);
        assert_eq!(served.len(), sample.example.learned());
        assert_eq!(bare.example.learned() + 1, sample.example.learned());
        assert_eq!(member.trace.len() + group.context.len(), tokens.len());
    }
    assert!(0 < forced_ends, "caps are met");
}

fn referred(folder: &Path, groups: &[Group]) -> Vec<Sample> {
    let model = load_frozen(folder).unwrap();
    let mut all: Vec<Sample> = samples(groups, &[]).unwrap().into_iter().map(|(sample, _)| sample).collect();
    let examples: Vec<_> = all.iter().map(|sample| sample.example.clone()).collect();
    let losses = example_losses(&model, &examples, 2048, 0, &Workers::new(1).unwrap()).unwrap();
    for (sample, losses) in all.iter_mut().zip(losses) {
        sample.reference = losses.iter().map(|loss| 0.1 - loss).collect();
    }
    all
}

#[test]
fn an_update_depends_on_neither_workers_nor_batches() {
    let folder = tempfile::tempdir().unwrap();
    orion_policy::tiny_policy(folder.path(), 5).unwrap();
    let (_, _, groups) = play(folder.path(), &rollout_settings(), 1);
    let model = load_model(folder.path()).unwrap();
    let all = referred(folder.path(), &groups);
    let made = |micro_tokens: usize, workers: usize| {
        let workers = Workers::new(workers).unwrap();
        gradients(&model, &all, &Objective::default(), micro_tokens, 0, &workers).unwrap()
    };
    let (one, two) = (made(1500, 1), made(1500, 3));
    assert_eq!(one.0, two.0);
    assert_eq!(one.1.norms(), two.1.norms());
    let small = made(1, 2);
    assert!((small.0.loss - one.0.loss).abs() < 1e-6);
    assert!((small.1.total_norm() / one.1.total_norm() - 1.0).abs() < 1e-4);
    let mut broken = all.clone();
    broken[1].reference.pop();
    let workers = Workers::new(1).unwrap();
    assert!(gradients(&model, &broken, &Objective::default(), 1500, 0, &workers).is_err());
}

#[test]
fn the_trainer_and_the_serving_engine_agree_on_what_was_sampled() {
    let folder = tempfile::tempdir().unwrap();
    orion_policy::tiny_policy(folder.path(), 6).unwrap();
    let (_, _, groups) = play(folder.path(), &rollout_settings(), 8);
    let model = load_frozen(folder.path()).unwrap();
    let all = samples(&groups, &[]).unwrap();
    let examples: Vec<_> = all.iter().map(|(sample, _)| sample.example.clone()).collect();
    let losses = example_losses(&model, &examples, 2048, 0, &Workers::new(2).unwrap()).unwrap();
    for (losses, (_, served)) in losses.iter().zip(&all) {
        assert_eq!(losses.len(), served.len());
        for (loss, served) in losses.iter().zip(served) {
            assert!((loss + served).abs() < 1e-5 * loss.abs().max(1.0), "{loss} {served}");
        }
    }
}

fn settings() -> GrpoSettings {
    GrpoSettings {
        seed: 4,
        steps: 5,
        queries: 2,
        updates: 2,
        rollout: RolloutSettings { horizon: 2, stop_at_rank: 1, ..rollout_settings() },
        schedule: Schedule { peak: 1e-3, warmup_steps: 2, decay: Decay::Fixed, floor: 0.0 },
        micro_tokens: 2048,
        eval_every: 2,
        eval_queries: 2,
        checkpoint_every: 1,
        ..GrpoSettings::default()
    }
}

/// A run over the tiny collection; everything but the model is the same each time.
fn train(policy: &Path, out: &Path, settings: &GrpoSettings, resume: bool) -> Result<Weights, TrainError> {
    train_on(tasks(0, &tiny::source(), Part::Train), policy, out, settings, resume)
}

fn train_on(
    train: Vec<Task>,
    policy: &Path,
    out: &Path,
    settings: &GrpoSettings,
    resume: bool,
) -> Result<Weights, TrainError> {
    let held_out = tasks(0, &tiny::source(), Part::HeldOut);
    let model = load_model(policy).unwrap();
    let format = orion_policy::TrajectoryFormat::load(policy, model.config()).unwrap();
    let reference = load_frozen(policy).unwrap();
    let grounds = tiny::grounds();
    let job = Job {
        train: &train,
        held_out: &held_out,
        grounds,
        format: &format,
        settings,
        pad: 0,
        run: out,
        resume,
        show: false,
    };
    run(model, &reference, job).map(|(model, outcome)| {
        assert_eq!(outcome.steps, settings.steps);
        model.to_weights().unwrap()
    })
}

/// The lines of `metrics.jsonl` that belong to a step, without what the clock says.
fn metric_lines(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.retain(|line| line.get("loss").is_some());
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("seconds");
    }
    lines
}

#[test]
fn a_run_that_was_killed_at_any_step_ends_like_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy");
    orion_policy::tiny_policy(&policy, 7).unwrap();
    let whole = folder.path().join("whole");
    let expected = train(&policy, &whole, &settings(), false).unwrap();
    assert_ne!(expected, load_model(&policy).unwrap().to_weights().unwrap());
    assert_eq!(metric_lines(&whole).len(), 5);
    for killed_in in 1..=4 {
        let cut = folder.path().join(format!("cut-{killed_in}"));
        train(&policy, &cut, &GrpoSettings { steps: killed_in, workers: 1, ..settings() }, false).unwrap();
        // Killed while it wrote a checkpoint and a line: the halves lie about.
        std::fs::create_dir_all(cut.join("partial-step-0000009")).unwrap();
        let metrics = cut.join("metrics.jsonl");
        let text = std::fs::read_to_string(&metrics).unwrap();
        std::fs::write(&metrics, format!("{text}{{\"step\":9,\"loss\":1}}\n{{\"step\":{killed_in},\"lo"))
            .unwrap();
        let resumed = train(&policy, &cut, &settings(), true).unwrap();
        assert_eq!(resumed, expected, "killed in step {killed_in}");
        assert_eq!(metric_lines(&cut), metric_lines(&whole), "killed in step {killed_in}");
    }
    // Killed after the checkpoint that a step writes when its candidates have been seen.
    let late = folder.path().join("late");
    train(&policy, &late, &settings(), false).unwrap();
    let saved = checkpoint::list(&late).unwrap();
    assert_eq!(saved.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [4, 5]);
    std::fs::remove_dir_all(&saved[1].1).unwrap();
    assert_eq!(train(&policy, &late, &settings(), true).unwrap(), expected);
    assert_eq!(metric_lines(&late), metric_lines(&whole));
    // Without `resume`, or as another run, a folder with checkpoints is left alone.
    assert!(train(&policy, &whole, &settings(), false).is_err());
    let other = GrpoSettings { seed: 5, ..settings() };
    assert!(train(&policy, &whole, &other, true).unwrap_err().to_string().contains("settings"));
    let fewer = tasks(0, &tiny::source(), Part::Train).split_off(1);
    let error = train_on(fewer, &policy, &whole, &settings(), true).unwrap_err();
    assert!(error.to_string().contains("training queries"), "{error}");
}

#[test]
fn settings_out_of_range_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy");
    orion_policy::tiny_policy(&policy, 7).unwrap();
    let refused = |change: &dyn Fn(&mut GrpoSettings)| {
        let mut own = settings();
        change(&mut own);
        let error = train(&policy, &folder.path().join("out"), &own, false).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    assert!(refused(&|own| own.rollout.group = 1).contains("2 to 64"));
    assert!(refused(&|own| own.rollout.temperature = 0.0).contains("greedy"));
    assert!(refused(&|own| own.objective.clip = 1.0).contains("between 0 and 1"));
    assert!(refused(&|own| own.objective.beta = f64::NAN).contains("not negative"));
    assert!(refused(&|own| own.queries = 0).contains("at least 1"));
    assert!(refused(&|own| own.rollout.max_context_tokens = 20).contains("room for one turn"));
    let unknown = refused(&|own| {
        own.rollout.reward.insert("kindness".into(), "1".into());
    });
    assert!(unknown.contains("kindness"), "{unknown}");
}

fn healthy(step: u64) -> Signals {
    // What a run that learns looks like: shorter queries, less spread, slowly away from the reference.
    let step = step as f64;
    Signals {
        query_words: 8.0 - 0.02 * step + (step % 3.0) * 0.4,
        entropy: 2.0 - 0.008 * step + (step % 5.0) * 0.05,
        divergence: 0.004 * step,
        repeats: 0.1 + 0.001 * step,
    }
}

#[test]
fn each_kind_of_collapse_is_seen_and_health_is_not() {
    let settings = CollapseSettings::default();
    let broken: [(&str, &dyn Fn(Signals) -> Signals); 6] = [
        ("query length", &|s| Signals { query_words: 1.0, ..s }),
        ("query length", &|s| Signals { query_words: 32.0, ..s }),
        ("sampling entropy", &|s| Signals { entropy: 0.05, ..s }),
        ("sampling entropy", &|s| Signals { entropy: f64::NAN, ..s }),
        ("divergence", &|s| Signals { divergence: 4.0, ..s }),
        ("the share of repeated queries", &|s| Signals { repeats: 0.9, ..s }),
    ];
    for (what, breaks) in broken {
        let mut monitor = Monitor::default();
        for step in 0..100 {
            assert_eq!(monitor.observe(&healthy(step), &settings), None, "step {step}");
            assert!(monitor.is_healthy());
        }
        // One odd step is noise.
        assert_eq!(monitor.observe(&breaks(healthy(100)), &settings), None);
        assert!(!monitor.is_healthy());
        assert_eq!(monitor.observe(&healthy(101), &settings), None);
        assert!(monitor.is_healthy());
        let mut seen = None;
        for step in 102..110 {
            seen = monitor.observe(&breaks(healthy(step)), &settings);
            if seen.is_some() {
                assert_eq!(step, 102 + settings.patience_steps - 1);
                break;
            }
        }
        assert_eq!(seen.map(|collapse| collapse.what), Some(what));
    }
}

#[test]
fn a_slide_too_slow_for_the_running_value_is_seen_from_where_it_began() {
    let settings = CollapseSettings::default();
    let mut monitor = Monitor::default();
    let stopped = (0..400).find(|step| {
        let words = 8.0 * 0.97f64.powi(*step);
        monitor.observe(&Signals { query_words: words.max(0.5), ..healthy(0) }, &settings).is_some()
    });
    assert!(stopped.is_some());
}

#[test]
fn a_run_that_collapses_stops_and_keeps_its_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy");
    orion_policy::tiny_policy(&policy, 8).unwrap();
    let collapse = CollapseSettings { warmup_steps: 2, patience_steps: 2, ..CollapseSettings::default() };
    let sound = GrpoSettings { steps: 12, updates: 1, eval_queries: 0, collapse, ..settings() };
    // A rate that grows until it tears the weights apart.
    let schedule = Schedule { peak: 10.0, warmup_steps: 1000, decay: Decay::Fixed, floor: 0.0 };
    let torn = GrpoSettings { steps: 60, schedule, ..sound.clone() };
    let out = folder.path().join("torn");
    let error = train(&policy, &out, &torn, false).unwrap_err();
    let TrainError::Collapsed { step, ref kept, steps, .. } = error else { panic!("{error}") };
    assert_eq!((error.exit_code(), steps), (1, 2), "{error}");
    let (last, newest) = checkpoint::list(&out).unwrap().pop().unwrap();
    assert_eq!(*kept, format!("`{}`", newest.display()));
    assert!(last + 2 <= step, "kept {last}, stopped at {step}");
    // The kept weights are sound: their candidates spread as those of the start do.
    let surprise = |folder: &Path| {
        let (_, _, groups) = play(folder, &sound.rollout, 77);
        measure::signals(&groups, 0.0).entropy
    };
    std::fs::copy(policy.join("tokenizer.json"), newest.join("tokenizer.json")).unwrap();
    std::fs::copy(policy.join("orion.json"), newest.join("orion.json")).unwrap();
    let (start, kept) = (surprise(&policy), surprise(&newest));
    assert!(0.35 * start <= kept && kept <= 3.0 * start, "{start} {kept}");
    // The same run at a rate that a run would have is left alone.
    train(&policy, &folder.path().join("sound"), &sound, false).unwrap();
}

#[test]
fn only_train_queries_are_learned_from() {
    let source = tiny::source();
    let (train, held_out) = (tasks(0, &source, Part::Train), tasks(0, &source, Part::HeldOut));
    assert!(!train.is_empty() && !held_out.is_empty());
    for task in &train {
        let part = source.queries.iter().find(|(query, _)| query.id == task.id).map(|(_, part)| *part);
        assert_eq!(part, Some(Part::Train));
        assert!(held_out.iter().all(|other| other.id != task.id && other.text != task.text));
        assert!(!task.targets.is_empty());
    }
}

#[test]
fn the_settings_of_the_repository_read_and_the_command_line_goes_on_top() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("grpo.toml");
    let file = GrpoSettings::load(Some(&path)).unwrap();
    file.check().unwrap();
    assert_eq!((file.steps, file.rollout.group, file.rollout.horizon), (200, 4, 4));
    let typed = GrpoOverrides {
        steps: Some(7),
        beta: Some(0.5),
        look_up: Some(LookUp::Chosen),
        reward_options: vec![("shift".into(), "0.5".into())],
        ..GrpoOverrides::default()
    };
    let meant = typed.apply(file.clone());
    assert_eq!((meant.steps, meant.objective.beta, meant.rollout.look_up), (7, 0.5, LookUp::Chosen));
    assert_eq!(meant.rollout.reward["shift"], "0.5");
    assert_eq!(meant.rollout.reward["rank"], "logarithmic");
    assert_eq!(meant.schedule, file.schedule);
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, "stepps = 3").unwrap();
    assert!(GrpoSettings::load(Some(&wrong)).unwrap_err().to_string().contains("stepps"));
}
