//! The distribution of response times.

use plotters::prelude::*;

use super::canvas::{Area, COLOURS, Drawn, FAINT, duration, letters, panels};
use crate::{Outcome, Report};

/// Points of a curve.
const POINTS: u32 = 40;

pub(super) fn plot(report: &Report) -> String {
    let title = "Response time: which part of the connections took no longer";
    let entries =
        [(COLOURS[0], "the panel's scheduler".to_owned()), (FAINT, "the others".to_owned())];
    let curves: Vec<Vec<(f64, f64)>> = report.outcomes.iter().map(curve).collect();
    panels(title, &format!("{}.", report.title()), &entries, report.outcomes.len(), |at, area| {
        panel(&report.outcomes[at], at, &curves, area)
    })
}

/// Seconds and percent; closer together where the tail is.
fn curve(outcome: &Outcome) -> Vec<(f64, f64)> {
    let parts = (0..=POINTS).map(|n| 1.0 - (1.0 - f64::from(n) / f64::from(POINTS)).powi(2));
    let point = |part: f64| Some((outcome.responses.percentile(part)?.max(1e-6), part * 100.0));
    parts.filter_map(point).collect()
}

/// Whole powers of ten around all curves.
fn range(curves: &[Vec<(f64, f64)>]) -> (f64, f64) {
    // The first hundredth is not worth a power of ten.
    let starts = curves.iter().filter_map(|curve| curve.get(1)).map(|(seconds, _)| *seconds);
    let least = starts.fold(f64::INFINITY, f64::min).min(1.0);
    let ends = curves.iter().filter_map(|curve| curve.last()).map(|(seconds, _)| *seconds);
    let most = ends.fold(0.0, f64::max).max(least * 10.0);
    (10f64.powf(least.log10().floor()), 10f64.powf(most.log10().ceil()))
}

fn panel(outcome: &Outcome, at: usize, curves: &[Vec<(f64, f64)>], area: &Area<'_>) -> Drawn {
    let (least, most) = range(curves);
    let latency = outcome.latency;
    let caption = format!(
        "{}: p50 {}, p99 {}",
        outcome.scheduler,
        duration(latency.p50),
        duration(latency.p99)
    );
    let mut chart = ChartBuilder::on(area)
        .caption(caption, letters(15))
        .margin(6)
        .margin_right(20)
        .x_label_area_size(32)
        .y_label_area_size(46)
        .build_cartesian_2d((least..most).log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT.mix(0.5))
        .x_labels(4)
        .y_labels(4)
        .x_label_formatter(&|seconds| duration(*seconds))
        .y_label_formatter(&|percent| format!("{percent:.0} %"))
        .x_desc("response time")
        .label_style(letters(11))
        .axis_desc_style(letters(12))
        .draw()?;
    let inside = |curve: &[(f64, f64)]| {
        curve.iter().map(|(seconds, part)| (seconds.max(least), *part)).collect::<Vec<_>>()
    };
    for (_, other) in curves.iter().enumerate().filter(|(other, _)| *other != at) {
        chart.draw_series(LineSeries::new(inside(other), FAINT))?;
    }
    chart.draw_series(LineSeries::new(inside(&curves[at]), COLOURS[0].stroke_width(2)))?;
    Ok(())
}
