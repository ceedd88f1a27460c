-- Makes one message for Gotify of one line of replicator-kuma.

local ESCAPES = { ['"'] = '\\"', ['\\'] = '\\\\', ['\n'] = '\\n', ['\t'] = '\\t', ['\r'] = '\\r' }

local function quoted(text)
    local escaped = text:gsub('[%z\1-\31"\\\127]', function(c)
        return ESCAPES[c] or string.format('\\u%04x', c:byte())
    end)
    return '"' .. escaped .. '"'
end

-- Gotify's app makes a sound from 4 on, and stays on the screen from 8 on.
local PRIORITY = { error = 8 }

function message(tag, timestamp, record)
    local title = string.format('%s: %s', record['instance'] or 'replicator-kuma', record['event'] or '')
    local body = string.format(
        '{"title": %s, "message": %s, "priority": %d}',
        quoted(title),
        quoted(tostring(record['message'] or '')),
        PRIORITY[record['level']] or 4
    )
    return 1, timestamp, { body = body, headers = { ['Content-Type'] = 'application/json' } }
end
