{# A quotient with four digits; NULL where there is nothing to divide by. #}
{% macro share(part, whole) -%}
cast(cast({{ part }} as double precision) / nullif({{ whole }}, 0) as decimal(6, 4))
{%- endmacro %}
