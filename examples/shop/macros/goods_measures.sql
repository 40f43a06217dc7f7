{# What goods come to, over rows of dwd_order_items: without freight and red packets, which belong to whole orders. #}
{% macro goods_measures() -%}
count(distinct order_id) as orders,
    count(distinct user_id) as buyers,
    sum(quantity) as pieces,
    sum(amount) as gmv,
    coalesce(sum(amount) filter (where is_paid_back), cast(0 as decimal(12, 2))) as refunded
{%- endmacro %}
