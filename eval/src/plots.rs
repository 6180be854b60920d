//! Tables as pictures: quality, turn-wise success, stagnation, backtracking and query length, one SVG file each.
//!
//! The behaviour charts are those of the paper's Figures 2 to 7, by the definitions of [`crate::behaviour`]. A row of a
//! table is a stage of training where rows are named so (`beam@sft/final`, `beam@grpo/final`). Neighbours: [`crate::table`]
//! has the numbers, the command line chooses the folder.

use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::EvalError;
use crate::table::{TableA, TableRow};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), String>;

const WIDTH: u32 = 960;
/// Height of one bar with the gap below it.
const BAR: u32 = 26;
/// Room for names, left, and for numbers, right.
const NAMES: i32 = 330;
const NUMBERS: i32 = 90;
const HEADER: i32 = 64;
const FONT: &str = "system-ui, sans-serif";
const INK: RGBColor = RGBColor(38, 43, 51);
const FAINT: RGBColor = RGBColor(225, 228, 232);
/// Adaptive rows; controls are grey, so that what is compared shows at a glance.
const ADAPTIVE: RGBColor = RGBColor(33, 102, 172);
const CONTROL: RGBColor = RGBColor(150, 156, 165);
/// Turns one to five and later, dark to light.
const TURNS: [RGBColor; 5] = [
    RGBColor(8, 48, 107),
    RGBColor(33, 102, 172),
    RGBColor(90, 155, 207),
    RGBColor(158, 202, 225),
    RGBColor(211, 226, 240),
];

/// One bar or box: its name, whether it is a control, and what to draw.
struct Line<T> {
    name: String,
    is_control: bool,
    value: T,
}

/// Draws every chart that the tables have numbers for; rows are named with their set where there are several tables.
/// Returns the files, in the order in which they were drawn.
///
/// # Errors
/// A folder that cannot be written to.
pub fn draw(tables: &[TableA], folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
    std::fs::create_dir_all(folder).map_err(|source| EvalError::Io {
        attempted: "creating",
        path: folder.to_owned(),
        source,
    })?;
    let quality = lines(tables, |row| Some((row.ndcg_10, format!("{:.4}", row.ndcg_10))));
    let stagnation = lines(tables, |row| row.behaviour.as_ref().map(|seen| percent(seen.rank_stagnation)));
    let backtracking = lines(tables, |row| row.behaviour.as_ref().map(|seen| percent(seen.backtracking)));
    let success = lines(tables, |row| {
        row.behaviour.as_ref().map(|seen| seen.turn_wise_success.clone()).filter(|shares| !shares.is_empty())
    });
    let lengths = lines(tables, |row| row.behaviour.as_ref().map(|seen| seen.query_words_quartiles));
    let mut files = Vec::new();
    let mut add = |name: &str, count: usize, body: &dyn Fn(&Area<'_>) -> Drawn| {
        if count == 0 {
            return Ok(());
        }
        let path = folder.join(name);
        chart(&path, count, body)?;
        files.push(path);
        Ok::<(), EvalError>(())
    };
    add("quality.svg", quality.len(), &|area| {
        bars(area, "nDCG@10", "blue: adaptive, grey: control", &quality, 1.0)
    })?;
    add("turn-wise-success.svg", success.len(), &|area| stacks(area, &success))?;
    add("rank-stagnation.svg", stagnation.len(), &|area| {
        let says = "steps without success so far that leave the best rank where it was";
        bars(area, "Rank stagnation", says, &stagnation, 1.0)
    })?;
    add("backtracking.svg", backtracking.len(), &|area| {
        let says = "searches that lost ground and then found better than before";
        bars(area, "Backtracking", says, &backtracking, 1.0)
    })?;
    add("query-length.svg", lengths.len(), &|area| boxes(area, &lengths))?;
    Ok(files)
}

fn percent(share: f64) -> (f64, String) {
    (share, format!("{:.0} %", share * 100.0))
}

fn lines<T>(tables: &[TableA], value: impl Fn(&TableRow) -> Option<T>) -> Vec<Line<T>> {
    let rows = tables.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)));
    rows.filter_map(|(table, row)| {
        let name = match tables.len() {
            1 => row.system.clone(),
            _ => format!("{} · {}", table.dataset, row.system),
        };
        Some(Line { name, is_control: row.is_control, value: value(row)? })
    })
    .collect()
}

fn chart(path: &Path, count: usize, body: &dyn Fn(&Area<'_>) -> Drawn) -> Result<(), EvalError> {
    let height = HEADER as u32 + BAR * u32::try_from(count).unwrap_or(u32::MAX / BAR / 2) + 16;
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)
            .map_err(|error| error.to_string())
            .and_then(|()| body(&area))
            .and_then(|()| area.present().map_err(|error| error.to_string()))
    };
    let write = |source| EvalError::Io { attempted: "writing", path: path.to_owned(), source };
    drawn.map_err(|reason| write(std::io::Error::other(reason)))?;
    std::fs::write(path, svg).map_err(write)
}

fn text(area: &Area<'_>, shown: &str, place: (i32, i32), size: i32, colour: RGBColor) -> Drawn {
    let style = (FONT, size).into_font().color(&colour);
    area.draw(&Text::new(shown.to_owned(), place, style)).map_err(|error| error.to_string())
}

fn rectangle(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Drawn {
    area.draw(&Rectangle::new([from, to], colour.filled())).map_err(|error| error.to_string())
}

fn heading(area: &Area<'_>, title: &str, says: &str) -> Drawn {
    text(area, title, (16, 14), 20, INK)?;
    text(area, says, (16, 38), 13, CONTROL)
}

/// Name at the left of line `place`; returns its top.
fn name<T>(area: &Area<'_>, line: &Line<T>, place: usize) -> Result<i32, String> {
    let top = HEADER + BAR as i32 * place as i32;
    // A name that is too long keeps its end: that is where policies differ.
    let characters: Vec<char> = line.name.chars().collect();
    let shown: String = match characters.len() {
        long if long > 46 => std::iter::once('…').chain(characters[long - 45..].iter().copied()).collect(),
        _ => line.name.clone(),
    };
    text(area, &shown, (16, top + 4), 13, INK)?;
    Ok(top)
}

/// Pixels of a value in the space between names and numbers.
fn scaled(value: f64, most: f64) -> i32 {
    let room = f64::from(WIDTH as i32 - NAMES - NUMBERS);
    let share = if most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
    (share * room).round() as i32
}

fn colour(is_control: bool) -> RGBColor {
    if is_control { CONTROL } else { ADAPTIVE }
}

fn bars(area: &Area<'_>, title: &str, says: &str, lines: &[Line<(f64, String)>], most: f64) -> Drawn {
    heading(area, title, says)?;
    for (place, line) in lines.iter().enumerate() {
        let top = name(area, line, place)?;
        let (value, number) = &line.value;
        rectangle(area, (NAMES, top), (NAMES + scaled(1.0, 1.0), top + 18), FAINT)?;
        rectangle(area, (NAMES, top), (NAMES + scaled(*value, most), top + 18), colour(line.is_control))?;
        text(area, number, (WIDTH as i32 - NUMBERS + 12, top + 4), 13, INK)?;
    }
    Ok(())
}

fn stacks(area: &Area<'_>, lines: &[Line<Vec<f64>>]) -> Drawn {
    heading(
        area,
        "Turn-wise success",
        "of the searches that succeed, the share that first does so at turn 1 (dark), 2, …",
    )?;
    for (place, line) in lines.iter().enumerate() {
        let top = name(area, line, place)?;
        let mut sum = 0.0;
        for (turn, share) in line.value.iter().enumerate() {
            let from = NAMES + scaled(sum, 1.0);
            sum += share;
            let shade = TURNS[turn.min(TURNS.len() - 1)];
            rectangle(area, (from, top), (NAMES + scaled(sum, 1.0), top + 18), shade)?;
        }
        let first = line.value.first().copied().unwrap_or(0.0);
        text(area, &format!("{:.0} %", first * 100.0), (WIDTH as i32 - NUMBERS + 12, top + 4), 13, INK)?;
    }
    Ok(())
}

fn boxes(area: &Area<'_>, lines: &[Line<[f64; 5]>]) -> Drawn {
    heading(
        area,
        "Query length",
        "words of a search query: shortest, quartiles, longest; the number is the median",
    )?;
    let most = lines.iter().map(|line| line.value[4]).fold(1.0, f64::max);
    for (place, line) in lines.iter().enumerate() {
        let top = name(area, line, place)?;
        let [least, first, median, third, longest] = line.value.map(|words| NAMES + scaled(words, most));
        rectangle(area, (least, top + 8), (longest, top + 10), CONTROL)?;
        rectangle(area, (first, top), (third, top + 18), colour(line.is_control))?;
        rectangle(area, (median - 1, top), (median + 1, top + 18), INK)?;
        text(area, &format!("{:.0}", line.value[2]), (WIDTH as i32 - NUMBERS + 12, top + 4), 13, INK)?;
    }
    Ok(())
}
