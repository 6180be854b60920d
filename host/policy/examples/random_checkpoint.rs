//! Writes a policy of random weights in the true shape of an LFM2: for measuring, and for trying what large models need.
//!
//! `cargo run --release -p orion-policy --example random_checkpoint -- --shape 350M|700M|1.2B|nano
//! [--numbers f16|bf16|f32] [--seed N] DIR`
//!
//! The same arguments give the same bytes. Memory is bounded whatever the shape; weights are written beside their
//! place and renamed, so an interrupted run leaves no half checkpoint. A `DIR` that ends in `.gguf` is a single file, and
//! `--numbers` may then be `q8_0`, `q4_0` or `q4_k` too. Its proposals are gibberish in the right format.

#[path = "support/gguf_writer.rs"]
mod gguf_writer;
#[path = "support/shapes.rs"]
mod shapes;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gguf_writer::{Head, Kind};
use orion_kernels::BlockFormat;
use orion_policy::{
    Config, FormatKind, FormatSpec, NumberFormat, byte_pair_tokenizer_json, random_checkpoint_in,
    random_numbers,
};

fn kind(numbers: &str) -> Option<Kind> {
    Some(match numbers {
        "f32" => Kind::F32,
        "f16" => Kind::F16,
        "bf16" => Kind::Bf16,
        "q8_0" => Kind::Blocks(BlockFormat::Q8_0),
        "q4_0" => Kind::Blocks(BlockFormat::Q4_0),
        "q4_k" => Kind::Blocks(BlockFormat::Q4K),
        _ => return None,
    })
}

fn gguf(path: &Path, config: &Config, seed: u64, numbers: Kind) -> std::io::Result<()> {
    let tokenizer = byte_pair_tokenizer_json(config.vocabulary_size);
    let format = Some(("full", true));
    let head = Head { version: 3, config, tokenizer: &tokenizer, pre: "gpt-2", format, floats: &[] };
    let sizes: Vec<usize> = config.tensors().iter().map(|(_, shape)| shape.iter().product()).collect();
    let temporary = path.with_extension("partial");
    let mut out = BufWriter::new(std::fs::File::create(&temporary)?);
    gguf_writer::write(
        &mut out,
        &head,
        |_, _| numbers,
        |name, index| random_numbers(name, index, seed).take(sizes[index]),
    )?;
    out.flush()?;
    std::fs::rename(&temporary, path)
}

fn folder(path: &Path, config: &Config, seed: u64, numbers: NumberFormat) -> Result<(), String> {
    std::fs::create_dir_all(path).map_err(|error| format!("making `{}` failed: {error}", path.display()))?;
    let spec = FormatSpec::new(FormatKind::Full, true);
    let spec_json = serde_json::to_string_pretty(&spec).map_err(|error| error.to_string())?;
    for (name, text) in
        [("tokenizer.json", byte_pair_tokenizer_json(config.vocabulary_size)), ("orion.json", spec_json)]
    {
        let file = path.join(name);
        std::fs::write(&file, text)
            .map_err(|error| format!("writing `{}` failed: {error}", file.display()))?;
    }
    random_checkpoint_in(numbers, config, seed, path).map_err(|error| error.to_string())
}

fn run() -> Result<(), String> {
    let (mut shape, mut numbers, mut seed, mut place) = (None, "f16".to_owned(), 1, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().ok_or_else(|| format!("`{argument}`: expected a value, got none"));
        match argument.as_str() {
            "--shape" => shape = Some(value()?),
            "--numbers" => numbers = value()?,
            "--seed" => {
                let text = value()?;
                seed = text.parse().map_err(|_| format!("`--seed`: expected a number, got `{text}`"))?;
            }
            _ if argument.starts_with('-') => return Err(format!("unknown option `{argument}`")),
            _ => place = Some(PathBuf::from(&argument)),
        }
    }
    let (Some(name), Some(path)) = (shape, place) else {
        return Err("expected `--shape NAME [--numbers FORMAT] [--seed N] DIR`".to_owned());
    };
    let config =
        shapes::shape(&name).ok_or_else(|| format!("`--shape`: expected {}, got `{name}`", shapes::NAMES))?;
    let wrong =
        || format!("`--numbers`: expected f32, f16 or bf16 (q8_0, q4_0, q4_k for .gguf), got `{numbers}`");
    let stored = kind(&numbers).ok_or_else(wrong)?;
    if path.extension().is_some_and(|extension| extension == "gguf") {
        gguf(&path, &config, seed, stored)
            .map_err(|error| format!("writing `{}` failed: {error}", path.display()))?;
    } else {
        let format = match stored {
            Kind::F32 => NumberFormat::F32,
            Kind::F16 => NumberFormat::F16,
            Kind::Bf16 => NumberFormat::Bf16,
            Kind::Blocks(_) => return Err(wrong()),
        };
        folder(&path, &config, seed, format)?;
    }
    println!("{}", path.display());
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}
