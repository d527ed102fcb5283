//! What the plots have in common: colours, letters, a title, a grid of panels.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A part of a picture.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What drawing into a text gives; it cannot fail.
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Told apart by people who are colour-blind (Okabe and Ito, "Color Universal Design", 2002).
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
pub(super) const FAINT: RGBColor = RGBColor(205, 205, 205);

const WIDTH: u32 = 1000;
/// Without a legend.
const HEAD: u32 = 56;
const PANEL: u32 = 190;
const COLUMNS: usize = 4;

/// Letters of this size.
pub(super) fn letters(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// The same, drawn from this corner.
pub(super) fn anchored(size: u32, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    letters(size).pos(Pos::new(horizontal, vertical))
}

/// What a colour means.
pub(super) type Entry = (RGBColor, String);

/// A picture of this height below its head, which has a title, what it is a picture of, and a
/// legend.
pub(super) fn picture(
    title: &str,
    subject: &str,
    entries: &[Entry],
    height: u32,
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> String {
    let places = places(entries);
    let head = places.last().map_or(HEAD, |(_, y)| *y as u32 + 12);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, head + height)).into_drawing_area();
        let drawn = || {
            area.fill(&WHITE)?;
            area.draw_text(title, &letters(19), (12, 8))?;
            area.draw_text(subject, &letters(13), (12, 31))?;
            for ((colour, meaning), (x, y)) in entries.iter().zip(places) {
                area.draw(&Rectangle::new([(x, y - 4), (x + 16, y + 4)], colour.filled()))?;
                area.draw_text(meaning, &anchored(13, HPos::Left, VPos::Center), (x + 22, y))?;
            }
            draw(&area.split_vertically(head).1)?;
            area.present()?;
            Ok(())
        };
        let drawn: Drawn = drawn();
        drawn.expect("a text takes all that is drawn");
    }
    text
}

/// Where the entries of a legend stand: side by side, in as many lines as they need.
fn places(entries: &[Entry]) -> Vec<(i32, i32)> {
    let (mut x, mut y) = (12, 56);
    let mut place = |(_, meaning): &Entry| {
        // There is no font to measure by; 13 high is about 7 wide.
        let width = 22 + 7 * meaning.chars().count() as i32;
        if x > 12 && x + width > WIDTH as i32 {
            (x, y) = (12, y + 18);
        }
        let here = (x, y);
        x += width + 18;
        here
    };
    entries.iter().map(&mut place).collect()
}

/// A picture with a panel for each of `count`, side by side and below each other.
pub(super) fn panels(
    title: &str,
    subject: &str,
    entries: &[Entry],
    count: usize,
    mut panel: impl FnMut(usize, &Area<'_>) -> Drawn,
) -> String {
    let columns = count.clamp(1, COLUMNS);
    let rows = count.div_ceil(columns).max(1);
    // Few panels are larger.
    let height = PANEL * (if rows == 1 && columns < COLUMNS { 2 } else { 1 });
    picture(title, subject, entries, height * rows as u32 + 6, |body| {
        let areas = body.split_evenly((rows, columns));
        areas.iter().take(count).enumerate().try_for_each(|(at, area)| panel(at, area))
    })
}

/// Seconds, as short as can be.
pub(super) fn duration(seconds: f64) -> String {
    let plain = |value: f64| {
        if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
    };
    if seconds < 1.0 {
        format!("{} ms", plain(seconds * 1e3).trim_end_matches(".0"))
    } else {
        format!("{} s", plain(seconds).trim_end_matches(".0"))
    }
}
