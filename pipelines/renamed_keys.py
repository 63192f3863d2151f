"""Recipe keys that were renamed."""

RENAMED = {
    "companion": "member",
    "model.memory": "model.cooccurrence",
    "fit.memory_folds": "fit.prior_folds",
    "fit.closing_epochs": "fit.final_epochs",
    "fit.closing_events": "fit.final_events",
    "fit.closing_rate": "fit.final_rate",
    "alignment.memory_folds": "alignment.prior_folds",
    "alignment.anchor.foresight": "alignment.supervised.self_distillation",
    "alignment.anchor": "alignment.supervised",
    "decoder.num_paths": "decoder.search.num_paths",
    "decoder.finish_below": "decoder.search.finish_below",
    "decoder.min_steps": "decoder.search.min_steps",
    "decoder.order": "decoder.search.order",
    "decoder.corp": "decoder.search.corp",
    "decoder.theta": "decoder.search.theta",
    "decoder.guidance": "decoder.search.guidance",
    "decoder.overdraw": "decoder.search.overdraw",
    "decoder.codes_per_path": "decoder.search.codes_per_path",
    "decoder.item_head": "decoder.ranking.item_head",
    "decoder.path_weight": "decoder.ranking.path_weight",
    "decoder.ranked": "decoder.ranking.ranked",
    "tokens.untaught_margin": "tokens.undistilled_margin",
    "tokens.least_voice": "tokens.min_codebook_weight",
}
"""Recipe keys of version 0.1 and of 0.2 before its release, and what each is called now, the longer key first."""
