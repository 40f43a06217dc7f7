{#- The most used macros of dbt_utils, so that a project needs no package for them. -#}

{% macro generate_surrogate_key(field_list) -%}
  {%- set null_text = '' if var('surrogate_key_treat_nulls_as_empty_strings', false) else '_dbt_utils_surrogate_key_null_' -%}
  md5(cast({% for field in field_list %}coalesce(cast({{ field }} as text), '{{ null_text }}'){{ " || '-' || " if not loop.last }}{% endfor %} as text))
{%- endmacro %}

{% macro surrogate_key(field_list) -%}
  {{ exceptions.raise_compiler_error("dbt_utils.surrogate_key was replaced by dbt_utils.generate_surrogate_key") }}
{%- endmacro %}

{% macro group_by(n) -%}
  group by {% for i in range(1, n + 1) %}{{ i }}{{ ', ' if not loop.last }}{% endfor %}
{%- endmacro %}

{% macro safe_divide(numerator, denominator) -%}
  ( {{ numerator }} ) / nullif( ( {{ denominator }} ), 0)
{%- endmacro %}

{% macro safe_add(field_list) -%}
  {% for field in field_list %}coalesce({{ field }}, 0){{ ' + ' if not loop.last }}{% endfor %}
{%- endmacro %}

{% macro safe_subtract(field_list) -%}
  {% for field in field_list %}coalesce({{ field }}, 0){{ ' - ' if not loop.last }}{% endfor %}
{%- endmacro %}

{% macro slugify(string) -%}
  {{ string | lower | replace(' ', '_') | replace('-', '_') }}
{%- endmacro %}

{% macro pivot(column, values, alias=true, agg='sum', cmp='=', prefix='', suffix='', then_value=1, else_value=0, quote_identifiers=true, distinct=false) -%}
  {% for value in values %}{{ agg }}({{ 'distinct ' if distinct }}case when {{ column }} {{ cmp }} '{{ value | replace("'", "''") }}' then {{ then_value }} else {{ else_value }} end)
  {%- if alias %} as {{ adapter.quote(prefix ~ value ~ suffix) if quote_identifiers else slugify(prefix ~ value ~ suffix) }}{% endif %}{{ ', ' if not loop.last }}
  {% endfor %}
{%- endmacro %}
