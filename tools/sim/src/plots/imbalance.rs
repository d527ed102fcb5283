//! How unevenly each scheduler loads its servers: bars, the most even first.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{Area, COLOURS, Drawn, FAINT, INK, anchored, letters, picture};
use crate::Report;
use crate::measure::Spread;

/// Height of a bar with the room around it.
const BAR: i32 = 25;
/// Where bars begin, below the heads of the columns.
const TOP: i32 = 26;

pub(super) fn plot(report: &Report) -> String {
    let mut rows: Vec<(String, Spread)> = report
        .outcomes
        .iter()
        .filter_map(|outcome| Some((outcome.scheduler.to_string(), outcome.spread?)))
        .collect();
    rows.sort_by(|(_, one), (_, other)| one.max_over_mean.total_cmp(&other.max_over_mean));
    let height = TOP + BAR * rows.len() as i32 + 12;
    let subject = format!("{}.", report.title());
    picture("Imbalance by scheduler", &subject, &[], height as u32, |body| {
        let (left, right) = body.split_horizontally(550);
        let values = |value: fn(&Spread) -> f64| -> Vec<f64> {
            rows.iter().map(|(_, spread)| value(spread)).collect()
        };
        let head = "the busiest server's load over the mean (1: all alike)";
        column(&left, head, 1.0, 130, &values(|spread| spread.max_over_mean))?;
        let head = "standard deviation over the mean (0: all alike)";
        column(&right, head, 0.0, 20, &values(|spread| spread.variation))?;
        for (at, (name, _)) in (0..).zip(&rows) {
            let middle = TOP + BAR * at + BAR / 2;
            left.draw_text(name, &anchored(14, HPos::Right, VPos::Center), (120, middle))?;
        }
        Ok(())
    })
}

/// Bars from `x` on to the right, whose left edge means `from`.
fn column(area: &Area<'_>, head: &str, from: f64, x: i32, values: &[f64]) -> Drawn {
    let width = f64::from(area.dim_in_pixel().0 as i32 - x - 70);
    let most = values.iter().copied().fold(from, f64::max);
    area.draw_text(head, &letters(13), (x, 4))?;
    let bottom = TOP + BAR * values.len() as i32;
    for (at, value) in (0..).zip(values) {
        let (top, length) = (TOP + BAR * at, (value - from) / (most - from).max(1e-9) * width);
        let right = x + length as i32;
        let bar = [(x, top + 4), (right.max(x + 1), top + BAR - 4)];
        area.draw(&Rectangle::new(bar, COLOURS[0].filled()))?;
        let label = anchored(13, HPos::Left, VPos::Center);
        area.draw_text(&format!("{value:.2}"), &label, (right + 6, top + BAR / 2))?;
    }
    area.draw(&PathElement::new([(x, TOP), (x, bottom)], INK))?;
    area.draw(&PathElement::new([(x, bottom), (x + width as i32, bottom)], FAINT))?;
    Ok(())
}
