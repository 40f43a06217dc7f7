{#- dbt's own macros, in the SQL that is planned here: close to Postgres. -#}

{% macro generate_schema_name(custom_schema_name=none, node=none) -%}
  {%- if custom_schema_name is none -%}{{ target.schema }}{%- else -%}{{ target.schema }}_{{ custom_schema_name | trim }}{%- endif -%}
{%- endmacro %}

{% macro generate_schema_name_for_env(custom_schema_name=none, node=none) -%}
  {%- if target.name == 'prod' and custom_schema_name is not none -%}{{ custom_schema_name | trim }}{%- else -%}{{ target.schema }}{%- endif -%}
{%- endmacro %}

{% macro generate_alias_name(custom_alias_name=none, node=none) -%}
  {%- if custom_alias_name -%}{{ custom_alias_name | trim }}{%- else -%}{{ node.name }}{%- endif -%}
{%- endmacro %}

{% macro generate_database_name(custom_database_name=none, node=none) -%}
  {{- custom_database_name | trim if custom_database_name else target.database -}}
{%- endmacro %}

{% macro should_full_refresh() %}{{ return(true) }}{% endmacro %}

{% macro type_string() -%}text{%- endmacro %}
{% macro type_timestamp() -%}timestamp{%- endmacro %}
{% macro type_int() -%}int{%- endmacro %}
{% macro type_bigint() -%}bigint{%- endmacro %}
{% macro type_float() -%}double precision{%- endmacro %}
{% macro type_numeric() -%}numeric(28,6){%- endmacro %}
{% macro type_boolean() -%}boolean{%- endmacro %}

{% macro current_timestamp() -%}now(){%- endmacro %}
{% macro date(year, month, day) -%}cast('{{ '%04d' | format(year) }}-{{ '%02d' | format(month) }}-{{ '%02d' | format(day) }}' as date){%- endmacro %}
{% macro date_trunc(datepart, date) -%}date_trunc('{{ datepart }}', {{ date }}){%- endmacro %}

{% macro dateadd(datepart, interval, from_date_or_timestamp) -%}
  {%- if interval is integer -%}
    ({{ from_date_or_timestamp }} + interval '{{ interval }} {{ datepart }}')
  {%- elif interval is string and interval | replace('-', '') | int(-1) | string == interval | replace('-', '') -%}
    ({{ from_date_or_timestamp }} + interval '{{ interval }} {{ datepart }}')
  {%- else -%}
    ({{ from_date_or_timestamp }} + ((interval '1 {{ datepart }}') * ({{ interval }})))
  {%- endif -%}
{%- endmacro %}

{% macro _years_and(datepart, per_year, date) -%}
  (cast(date_part('year', {{ date }}) as bigint) * {{ per_year }} + cast(date_part('{{ datepart }}', {{ date }}) as bigint))
{%- endmacro %}

{% macro _units(datepart, seconds, date) -%}
  (cast(date_part('epoch', date_trunc('{{ datepart }}', cast({{ date }} as timestamp))) as bigint) / {{ seconds }})
{%- endmacro %}

{% macro datediff(first_date, second_date, datepart) -%}
  {%- set seconds = {'week': 604800, 'day': 86400, 'hour': 3600, 'minute': 60, 'second': 1} -%}
  {%- if datepart == 'year' -%}
    (cast(date_part('year', {{ second_date }}) as bigint) - cast(date_part('year', {{ first_date }}) as bigint))
  {%- elif datepart == 'quarter' -%}
    ({{ _years_and('quarter', 4, second_date) }} - {{ _years_and('quarter', 4, first_date) }})
  {%- elif datepart == 'month' -%}
    ({{ _years_and('month', 12, second_date) }} - {{ _years_and('month', 12, first_date) }})
  {%- elif datepart in seconds -%}
    ({{ _units(datepart, seconds[datepart], second_date) }} - {{ _units(datepart, seconds[datepart], first_date) }})
  {%- else -%}
    {{ exceptions.raise_compiler_error("datediff() does not know the date part `" ~ datepart ~ "`") }}
  {%- endif -%}
{%- endmacro %}

{% macro last_day(date, datepart) -%}
  cast(date_trunc('{{ datepart }}', {{ date }}) + interval '{{ '3 month' if datepart == 'quarter' else '1 ' ~ datepart }}' - interval '1 day' as date)
{%- endmacro %}

{% macro string_literal(value) -%}'{{ value }}'{%- endmacro %}
{% macro escape_single_quotes(expression) -%}{{ expression | replace("'", "''") }}{%- endmacro %}
{% macro concat(fields) -%}{{ fields | join(' || ') }}{%- endmacro %}
{% macro length(expression) -%}length({{ expression }}){%- endmacro %}
{% macro position(substring_text, string_text) -%}strpos({{ string_text }}, {{ substring_text }}){%- endmacro %}
{% macro replace(field, old_chars, new_chars) -%}replace({{ field }}, {{ old_chars }}, {{ new_chars }}){%- endmacro %}
{% macro right(string_text, length_expression) -%}right({{ string_text }}, {{ length_expression }}){%- endmacro %}
{% macro split_part(string_text, delimiter_text, part_number) -%}split_part({{ string_text }}, {{ delimiter_text }}, {{ part_number }}){%- endmacro %}
{% macro hash(field) -%}md5(cast({{ field }} as {{ type_string() }})){%- endmacro %}

{% macro cast(field, type) -%}cast({{ field }} as {{ type }}){%- endmacro %}
{% macro safe_cast(field, type) -%}cast({{ field }} as {{ type }}){%- endmacro %}
{% macro cast_bool_to_text(field) -%}cast({{ field }} as text){%- endmacro %}
{% macro equals(expr1, expr2) -%}({{ expr1 }} is not distinct from {{ expr2 }}){%- endmacro %}

{% macro any_value(expression) -%}min({{ expression }}){%- endmacro %}
{% macro bool_or(expression) -%}bool_or({{ expression }}){%- endmacro %}
{% macro listagg(measure, delimiter_text="','", order_by_clause=none, limit_num=none) -%}
  {%- if limit_num -%}{{ exceptions.raise_compiler_error("listagg() with a limit is not supported") }}{%- endif -%}
  string_agg({{ measure }}, {{ delimiter_text }}{{ ' ' ~ order_by_clause if order_by_clause else '' }})
{%- endmacro %}

{% macro array_construct(inputs=[], data_type=none) -%}array[{{ inputs | join(', ') }}]{%- endmacro %}
{% macro array_append(array, new_element) -%}array_append({{ array }}, {{ new_element }}){%- endmacro %}
{% macro array_concat(array_1, array_2) -%}array_concat({{ array_1 }}, {{ array_2 }}){%- endmacro %}

{% macro except() -%}except{%- endmacro %}
{% macro intersect() -%}intersect{%- endmacro %}
