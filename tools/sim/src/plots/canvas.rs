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
const HEAD: u32 = 66;
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

/// A picture of this height below its head, which has a title and what it is a picture of.
pub(super) fn picture(
    title: &str,
    subject: &str,
    height: u32,
    draw: impl FnOnce(&Area<'_>, &Area<'_>) -> Drawn,
) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, HEAD + height)).into_drawing_area();
        let drawn = || {
            area.fill(&WHITE)?;
            let (head, body) = area.split_vertically(HEAD);
            head.draw_text(title, &letters(19), (12, 8))?;
            head.draw_text(subject, &letters(13), (12, 31))?;
            draw(&head, &body)?;
            area.present()?;
            Ok(())
        };
        let drawn: Drawn = drawn();
        drawn.expect("a text takes all that is drawn");
    }
    text
}

/// A picture with a panel for each of `count`, side by side and below each other.
pub(super) fn panels(
    title: &str,
    subject: &str,
    count: usize,
    legend: impl FnOnce(&Area<'_>) -> Drawn,
    mut panel: impl FnMut(usize, &Area<'_>) -> Drawn,
) -> String {
    let columns = count.clamp(1, COLUMNS);
    let rows = count.div_ceil(columns).max(1);
    // Few panels are larger.
    let height = PANEL * (if rows == 1 && columns < COLUMNS { 2 } else { 1 });
    picture(title, subject, height * rows as u32 + 6, |head, body| {
        legend(head)?;
        let areas = body.split_evenly((rows, columns));
        areas.iter().take(count).enumerate().try_for_each(|(at, area)| panel(at, area))
    })
}

/// A line of a legend in the head: a coloured mark and its meaning, for each.
pub(super) fn legend(head: &Area<'_>, entries: &[(RGBColor, String)]) -> Drawn {
    let mut x = 12;
    for (colour, meaning) in entries {
        head.draw(&Rectangle::new([(x, 51), (x + 16, 59)], colour.filled()))?;
        head.draw_text(meaning, &anchored(13, HPos::Left, VPos::Center), (x + 22, 56))?;
        // There is no font to measure by; 13 high is about 7 wide.
        x += 22 + 7 * meaning.chars().count() as i32 + 18;
    }
    Ok(())
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
