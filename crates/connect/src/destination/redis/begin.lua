-- Leaves a session's token beside the marker and answers what stood there. ARGV: the token.
local before = redis.call('HGET', KEYS[1], 'marker')
redis.call('HSET', KEYS[1], 'session', ARGV[1])
return before
