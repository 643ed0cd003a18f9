//! Grafana's files as types: the keys that we use, and no other. Classic dashboard JSON (schema version
//! 39), and the files of the provisioning folder.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

macro_rules! strict {
    ($($(#[$attribute:meta])* struct $name:ident { $($(#[$inner:meta])* $field:ident: $kind:ty,)* })*) => {$(
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        #[allow(dead_code, reason = "a field that is only there to be allowed")]
        $(#[$attribute])*
        pub(crate) struct $name { $($(#[$inner])* pub $field: $kind,)* }
    )*};
}

strict! {
    struct Dashboard {
        uid: String,
        title: String,
        description: String,
        tags: Vec<String>,
        schema_version: u32,
        version: u32,
        editable: bool,
        graph_tooltip: u8,
        refresh: String,
        timezone: String,
        time: TimeRange,
        timepicker: Timepicker,
        links: Vec<Link>,
        annotations: List<Annotation>,
        templating: List<Variable>,
        panels: Vec<Panel>,
    }
    struct TimeRange { from: String, to: String, }
    struct Timepicker { #[serde(rename = "refresh_intervals")] refresh_intervals: Vec<String>, }
    struct Link {
        r#type: String,
        title: String,
        url: String,
        icon: String,
        tooltip: String,
        tags: Vec<String>,
        keep_time: bool,
        include_vars: bool,
        target_blank: bool,
        as_dropdown: bool,
    }
    struct Source { r#type: String, uid: String, }
    struct Annotation {
        name: String,
        datasource: Source,
        enable: bool,
        hide: bool,
        icon_color: String,
        built_in: Option<u8>,
        r#type: Option<String>,
        query: Option<String>,
        text_column: Option<String>,
        tags_column: Option<String>,
        target: Option<AnnotationTarget>,
    }
    struct AnnotationTarget {
        ref_id: String,
        query: String,
        text_column: String,
        tags_column: String,
        raw_query: bool,
        text_editor: bool,
        from_annotations: bool,
    }
    struct Variable {
        name: String,
        label: String,
        description: String,
        r#type: String,
        datasource: Source,
        query: String,
        definition: String,
        refresh: u8,
        regex: String,
        sort: u8,
        hide: u8,
        multi: bool,
        include_all: bool,
        all_value: Option<String>,
        skip_url_sync: bool,
        options: Vec<Value>,
        current: BTreeMap<String, Value>,
    }
    struct Panel {
        id: u32,
        r#type: String,
        title: String,
        description: String,
        grid_pos: GridPosition,
        datasource: Source,
        targets: Vec<Target>,
        field_config: FieldConfig,
        options: Value,
    }
    struct GridPosition { h: u32, w: u32, x: u32, y: u32, }
    struct Target {
        ref_id: String,
        datasource: Source,
        query: String,
        raw_query: bool,
        result_format: String,
        alias: Option<String>,
    }
    struct FieldConfig { defaults: Defaults, overrides: Vec<Override>, }
    struct Defaults {
        unit: String,
        decimals: Option<u8>,
        min: Option<f64>,
        no_value: Option<String>,
        color: Color,
        #[serde(default)]
        mappings: Vec<Mapping>,
        thresholds: Thresholds,
        custom: Custom,
        #[serde(default)]
        links: Vec<DataLink>,
    }
    struct Color { mode: String, }
    struct Mapping { r#type: String, options: BTreeMap<String, Mapped>, }
    struct Mapped { text: String, color: String, index: u32, }
    struct Thresholds { mode: String, steps: Vec<Step>, }
    struct Step { color: String, value: Option<f64>, }
    struct Custom {
        draw_style: Option<String>,
        line_width: Option<u8>,
        fill_opacity: Option<u8>,
        show_points: Option<String>,
        point_size: Option<u8>,
        span_nulls: Option<bool>,
        insert_nulls: Option<u32>,
        thresholds_style: Option<Color>,
        stacking: Option<Stacking>,
    }
    struct Stacking { mode: String, group: String, }
    struct DataLink { title: String, url: String, target_blank: bool, }
    struct Override { matcher: Matcher, properties: Vec<Property>, }
    struct Matcher { id: String, options: String, }
    struct Property { id: String, value: Value, }

    struct Legend { display_mode: String, placement: String, show_legend: bool, #[serde(default)] calcs: Vec<String>, }
    struct Tooltip { mode: String, sort: String, }
    struct TimeSeriesOptions { legend: Legend, tooltip: Tooltip, }
    struct StateTimelineOptions {
        merge_values: bool,
        show_value: String,
        align_value: String,
        row_height: f64,
        legend: Legend,
        tooltip: Tooltip,
    }
    struct HistogramOptions {
        bucket_size: u32,
        bucket_offset: u32,
        combine: bool,
        legend: Legend,
        tooltip: Tooltip,
    }
    struct TableOptions { show_header: bool, cell_height: String, }
    struct StatOptions {
        reduce_options: ReduceOptions,
        color_mode: String,
        graph_mode: String,
        justify_mode: String,
        orientation: String,
        text_mode: String,
    }
    struct ReduceOptions { calcs: Vec<String>, fields: String, values: bool, }

    struct DataSourceFile { api_version: u8, prune: bool, datasources: Vec<DataSource>, }
    struct DataSource {
        name: String,
        uid: String,
        r#type: String,
        access: String,
        org_id: u32,
        url: String,
        is_default: bool,
        editable: bool,
        json_data: JsonData,
        secure_json_data: Option<SecureJsonData>,
    }
    struct JsonData {
        version: String,
        db_name: String,
        http_mode: String,
        time_interval: String,
        http_header_name1: Option<String>,
    }
    struct SecureJsonData { http_header_value1: String, }
    struct ProviderFile { api_version: u8, providers: Vec<Provider>, }
    struct Provider {
        name: String,
        org_id: u32,
        folder: String,
        r#type: String,
        disable_deletion: bool,
        update_interval_seconds: u32,
        allow_ui_updates: bool,
        options: ProviderOptions,
    }
    struct ProviderOptions { path: String, folders_from_files_structure: bool, }

    struct RuleFile { api_version: u8, groups: Vec<RuleGroup>, }
    struct RuleGroup { org_id: u32, name: String, folder: String, interval: String, rules: Vec<Rule>, }
    struct Rule {
        uid: String,
        title: String,
        condition: String,
        data: Vec<Node>,
        #[serde(rename = "for")]
        lasting: String,
        no_data_state: String,
        exec_err_state: String,
        dashboard_uid: String,
        panel_id: u32,
        is_paused: bool,
        labels: Labels,
        annotations: RuleAnnotations,
    }
    struct Labels { severity: Severity, }
    struct RuleAnnotations {
        #[serde(rename = "__dashboardUid__")]
        dashboard_uid: String,
        #[serde(rename = "__panelId__")]
        panel_id: String,
        summary: String,
        description: String,
    }
    struct Node {
        ref_id: String,
        relative_time_range: RelativeTimeRange,
        datasource_uid: String,
        model: NodeModel,
    }
    struct RelativeTimeRange { from: u64, to: u64, }
    struct NodeModel {
        ref_id: String,
        r#type: Option<String>,
        query: Option<String>,
        raw_query: Option<bool>,
        result_format: Option<String>,
        interval_ms: Option<u64>,
        max_data_points: Option<u64>,
        expression: Option<String>,
        reducer: Option<String>,
        #[serde(default)]
        conditions: Vec<Condition>,
    }
    struct Condition { evaluator: Evaluator, }
    struct Evaluator { r#type: String, params: Vec<f64>, }

    struct ContactPointFile { api_version: u8, contact_points: Vec<ContactPoint>, }
    struct ContactPoint { org_id: u32, name: String, receivers: Vec<Receiver>, }
    struct Receiver { uid: String, r#type: String, disable_resolve_message: bool, settings: EmailSettings, }
    struct EmailSettings { addresses: String, single_email: bool, }
}

/// A list in a dashboard, which Grafana wraps in an object.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List<T> {
    pub list: Vec<T>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Critical,
    Warning,
}

/// `policies.yaml`; its keys are written with underscores.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "a field that is only there to be allowed")]
pub(crate) struct PolicyFile {
    #[serde(rename = "apiVersion")]
    pub api_version: u8,
    pub policies: Vec<Policy>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "a field that is only there to be allowed")]
pub(crate) struct Policy {
    #[serde(rename = "orgId")]
    pub org_id: Option<u32>,
    pub receiver: String,
    pub group_by: Option<Vec<String>>,
    pub object_matchers: Option<Vec<(String, String, String)>>,
    pub group_wait: String,
    pub group_interval: String,
    pub repeat_interval: String,
    #[serde(default)]
    pub routes: Vec<Policy>,
}
