//! Whom a server that left or joined sent elsewhere.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{COLOURS, Drawn, INK, anchored, picture};
use crate::Report;
use crate::churn::Moved;

/// Height of a bar with the room around it, where bars begin, and how long they may be.
const BAR: i32 = 25;
const LEFT: i32 = 300;
const WIDTH: f64 = 480.0;

/// None when nobody left or joined under a scheduler that hashes.
pub(super) fn plot(report: &Report) -> Option<String> {
    let mut rows: Vec<(String, Moved)> = Vec::new();
    for outcome in &report.outcomes {
        for disruption in &outcome.disruptions {
            let step = disruption.step;
            let name = outcome.scheduler;
            let label = format!(
                "{name}, server {} {}s at {} s",
                step.server,
                step.change.as_str(),
                step.at
            );
            rows.extend(disruption.moved.map(|moved| (label, moved)));
        }
    }
    if rows.is_empty() {
        return None;
    }
    let title = "Clients that get another server when one leaves or joins";
    let subject = format!("{}.", report.title());
    let height = BAR * rows.len() as i32 + 14;
    let entries = [
        (COLOURS[0], "had to: their server left, or they go to the one that joined".to_owned()),
        (COLOURS[1], "need not have".to_owned()),
    ];
    Some(picture(title, &subject, &entries, height as u32, |body| {
        for (at, (label, moved)) in (0..).zip(&rows) {
            bar(body, BAR * at, label, moved)?;
        }
        let bottom = BAR * rows.len() as i32 + 4;
        body.draw(&PathElement::new([(LEFT, 0), (LEFT, bottom)], INK))?;
        Ok(())
    }))
}

fn bar(body: &super::canvas::Area<'_>, top: i32, label: &str, moved: &Moved) -> Drawn {
    let middle = top + BAR / 2;
    body.draw_text(label, &anchored(14, HPos::Right, VPos::Center), (LEFT - 10, middle))?;
    let needed = LEFT + ((moved.share() - moved.needless_share()) * WIDTH) as i32;
    let all = LEFT + (moved.share() * WIDTH) as i32;
    for (from, to, colour) in [(LEFT, needed, COLOURS[0]), (needed, all, COLOURS[1])] {
        if to > from {
            body.draw(&Rectangle::new([(from, top + 4), (to, top + BAR - 4)], colour.filled()))?;
        }
    }
    let figures = format!(
        "{:.1} %, needlessly {:.1} %",
        moved.share() * 100.0,
        moved.needless_share() * 100.0
    );
    body.draw_text(&figures, &anchored(13, HPos::Left, VPos::Center), (all + 8, middle))?;
    Ok(())
}
