select user_id, name, city, registered_at from {{ source('shop', 'users') }}
