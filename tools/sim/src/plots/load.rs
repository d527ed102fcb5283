//! The load of each server over time.

use plotters::prelude::*;

use super::canvas::{Area, COLOURS, Drawn, Entry, FAINT, INK, letters, panels};
use crate::report::short;
use crate::{Outcome, Report};

/// Above it a line is drawn along the edge.
const TOP: f64 = 2.0;

/// Lines of a group; more would be a smear.
const LINES: usize = 12;

pub(super) fn plot(report: &Report) -> String {
    let title = "Load of each server over time, by scheduler";
    panels(
        title,
        &format!("{}.", report.title()),
        &groups(report),
        report.outcomes.len(),
        |at, area| panel(report, &report.outcomes[at], area),
    )
}

fn colour(group: usize) -> RGBColor {
    COLOURS[group % COLOURS.len()]
}

fn groups(report: &Report) -> Vec<Entry> {
    let entry = |(at, group): (usize, &crate::server::Group)| {
        let servers = if group.count == 1 { "server" } else { "servers" };
        let shown =
            if group.count as usize > LINES { format!(" ({LINES} shown)") } else { String::new() };
        let (count, weight, speed) = (group.count, group.weight, group.speed);
        (colour(at), format!("{count} {servers}{shown}, weight {weight}, speed {speed}"))
    };
    let full = (INK, "load 1: a connection for each worker; above it some wait".to_owned());
    report.scenario.servers.iter().enumerate().map(entry).chain([full]).collect()
}

fn panel(report: &Report, outcome: &Outcome, area: &Area<'_>) -> Drawn {
    let loads = outcome.series.loads.iter().flatten().flatten();
    let highest = loads.copied().fold(0.0, f64::max);
    let note = if highest > TOP { format!("  (up to {})", short(highest)) } else { String::new() };
    let end = report.scenario.workload.seconds;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}{note}", outcome.scheduler), letters(15))
        .margin(6)
        .margin_right(20)
        .x_label_area_size(32)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..end, 0.0..TOP)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT.mix(0.5))
        .x_labels(4)
        .y_labels(4)
        .x_desc("time, s")
        .y_desc("load")
        .x_label_formatter(&|seconds| short(*seconds))
        .label_style(letters(11))
        .axis_desc_style(letters(12))
        .draw()?;
    chart.draw_series(LineSeries::new([(0.0, 1.0), (end, 1.0)], INK.stroke_width(1)))?;
    let shown = shown(report);
    // Many lines need not be as fine.
    let step = shown.len().div_ceil(5).max(1);
    for (server, group) in shown {
        let ends = outcome.series.ends.iter().zip(&outcome.series.loads).step_by(step);
        // A server that was away leaves a gap.
        let points: Vec<Option<(f64, f64)>> =
            ends.map(|(end, loads)| loads[server].map(|load| (*end, load.min(TOP)))).collect();
        for line in points.split(Option::is_none).filter(|line| !line.is_empty()) {
            let line = line.iter().flatten().copied();
            chart.draw_series(LineSeries::new(line, colour(group).mix(0.8)))?;
        }
    }
    Ok(())
}

/// The servers to draw, with their groups.
fn shown(report: &Report) -> Vec<(usize, usize)> {
    let mut shown = Vec::new();
    let mut first = 0;
    for (at, group) in report.scenario.servers.iter().enumerate() {
        let count = group.count as usize;
        let lines = count.min(LINES);
        shown.extend((0..lines).map(|line| (first + line * count / lines, at)));
        first += count;
    }
    shown
}
