"""Which notebooks show which shapes of code and values, word by word as asked for; for the report."""

from __future__ import annotations

__all__ = ["SHAPES"]

SHAPES: dict[str, dict[str, str]] = {
    "Code": {
        "helpers over many cells": "helpers_over_cells",
        "redefinitions": "redefinition mess_three_versions mess_everything_twice",
        "deleted names still in use": "deleted_names mess_failed_halfway",
        "cells run out of order": "out_of_order mess_everything_twice",
        "cells edited after running": "edited_after_run",
        "cells that failed half-way": "half_failed_cell mess_failed_halfway",
        "conditional definitions": "conditional_definitions served_again",
        "closures over loop variables": "closure_loop_variable",
        "monkeypatched methods, attributes set on classes": "monkeypatched_class mess_monkey_lab dynamic_attributes",
        "nested and generic classes": "nested_generic_classes",
        "dataclasses": "dataclass_config homework_decision_tree",
        "enums": "enums",
        "NamedTuples": "named_tuples",
        "ABCs, Protocols": "abc_and_protocol",
        "functools: partial, cache, wraps, singledispatch": "functools_family parser_and_visitor bound_methods",
        "decorators that keep state": "stateful_decorators mess_borrowed_code",
        "properties, descriptors": "descriptors_and_slots",
        "metaclasses, `__init_subclass__`": "metaclass_registry",
        "async functions and generators": "async_handler context_managers_and_generators generators_and_iterators",
        "inheritance across cells, from libraries": "inheritance_across_cells library_subclasses",
        "`from x import *`, `import a.b as c`": "star_imports",
        "lazy imports inside functions": "lazy_imports",
        "`global`": "global_state",
        "type annotations as strings": "string_annotations",
        "`from __future__ import annotations` (sticky)": "future_annotations_sticky",
        "`%%time`, `%%capture` bodies": "timed_and_captured_cells mess_three_versions",
        "`%run`": "run_script",
        "`exec`": "exec_made",
        "magics and shell lines in the same cell": "timed_and_captured_cells mess_monkey_lab served_again",
        "local modules: autoreloaded, reloaded": "autoreloaded_module reloaded_module local_module",
        "local modules edited after import (refused)": "refused_changed_module module_state_changed",
        "packages beside the notebook, relative imports": "local_package",
        "names that shadow builtins": "shadowed_builtins",
        "unicode names": "unicode_names",
        "a notebook that serves twice": "served_again",
    },
    "Values": {
        "tensors: dtype, requires_grad, views, tied storage": "tensors_of_all_kinds",
        "tensors: sparse, quantized, subclasses": "sparse_and_structured quantized_dynamic tensor_subclass",
        "modules edited after construction, tied weights, buffers": "module_surgery loop_transformer_scratch",
        "parametrizations, hooks": "parametrized_modules hooks_on_modules finetune_distillation",
        "ModuleList, ModuleDict; timm and torchvision style": "timm_style finetune_frozen_backbone",
        "lazy, recurrent": "lazy_and_recurrent_modules loop_char_rnn",
        "compiled and DataParallel unwrapped": "wrapped_modules",
        "jit and exported programs": "scripted_module exported_program exported_programs",
        "Hugging Face: models, tokenizers, parts of pipelines": "tiny_bert finetune_tiny_bert"
        " generation_with_tokenizer huggingface_pipeline finetune_chat_template finetune_token_tagger",
        "numpy: structured, masked, views, generators": "sparse_and_structured numpy_views numpy_generator",
        "pandas": "pandas_lookup kaggle_passengers mess_data_archaeology",
        "scikit-learn": "sklearn_pipeline sklearn_text sklearn_trees sklearn_own_transformer sklearn_functions"
        " column_transformer_frame",
        "PIL": "image_values draw_certificates",
        "plain data, datetime, Decimal, Path, regexes": "plain_data_zoo regex_tables collections_zoo",
        "files": "local_data_file working_directory",
        "locks, queues, pools of threads, context variables": "locks_and_queues thread_pool_embeddings"
        " async_gather_limits",
        "iterators in mid-stream": "itertools_midstream numpy_generator",
        "optimizers (refused)": "refused_optimizer",
        "what is one object stays one": "shared_identity object_graph numpy_views",
        "values that the sample run changes": "sample_changes_values",
    },
    "Settings": {
        "default dtype, grad mode, seeds": "default_dtype seeds_and_grad_mode",
        "cwd, sys.path, environment": "working_directory recursion_and_path environment_variables",
        "numpy and pandas options, warnings": "print_options warnings_as_errors",
        "levels of loggers": "text_cleaning_pipeline",
    },
}
"""Words -> names of notebooks."""
